"""Fashion-MNIST from its four idx files."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from teddy.data.images import TensorImages
from teddy.data.sources.base import Loaded, numbered_ids
from teddy.data.sources.packed import PackedFiles

CLASSES = ("t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
DEFAULT_ROOT = Path("datasets/fashion_mnist")
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # the folder of Debian's package dataset-fashion-mnist


def parse_idx(raw: bytes) -> np.ndarray:
    """Read the array in an idx file of unsigned bytes, uint8 of the shape that its header gives; ValueError if it is none."""
    # torchvision's reader takes no gzipped files and accepts some that are cut short.
    # Two zero bytes, 0x08 for unsigned bytes, the number of axes, then each axis as a big-endian 32-bit length.
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08" or len(raw) < 4 + 4 * raw[3]:
        raise ValueError("it is no idx file of unsigned bytes")
    shape = struct.unpack_from(f">{raw[3]}I", raw, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape).copy()


class FashionMNIST(PackedFiles):
    """Fashion-MNIST (Xiao et al., 2017): 60,000 + 10,000 grey images of 28 x 28 pixels in ten classes."""

    kind, title = "idx", "Fashion-MNIST"
    site = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    downloads: ClassVar = {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    }
    names = tuple(name.removesuffix(".gz") for name in downloads)

    def __init__(self, root: str | None = None) -> None:
        folder = DEFAULT_ROOT if root is None else Path(root).expanduser()  # or that of torchvision's dataset
        super().__init__([folder, folder / "FashionMNIST" / "raw", SYSTEM_FOLDER], may_download=root is None)

    def load(self) -> Loaded:
        files = self.files()
        train, test = (self._read(files, stem) for stem in ("train", "t10k"))
        return Loaded(train, test, CLASSES, numbered_ids(CLASSES), channels=1, size=train.images.shape[-1])

    def _read(self, files: Mapping[str, Path], stem: str) -> TensorImages:
        arrays = []
        for path in (files[f"{stem}-images-idx3-ubyte"], files[f"{stem}-labels-idx1-ubyte"]):
            try:
                arrays.append(parse_idx(self.read(path)))
            except ValueError as error:
                raise self.damaged(path, error) from error
        images, labels = arrays
        if images.ndim != 3 or labels.shape != images.shape[:1] or labels.max(initial=0) >= len(CLASSES):
            raise self.damaged(path, "images and labels do not fit together")
        return TensorImages(torch.from_numpy(images)[:, None], torch.from_numpy(labels))
