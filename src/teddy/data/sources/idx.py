"""Fashion-MNIST from its four idx files, wherever they lie."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from teddy.artifacts.fingerprint import file_digest, fingerprint
from teddy.config.errors import BadInput
from teddy.data.sources.base import Loaded, numbered_ids

if TYPE_CHECKING:
    from teddy.data.images import TensorImages

FASHION_CLASSES = (
    "t-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEFAULT_ROOT = Path("datasets/fashion_mnist")
MIRROR = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FILES = {
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}
"""The idx files and the MD5 of their gzipped form."""


def find_idx(folder: Path, name: str) -> Path:
    """The file ``name`` or ``name.gz`` in a folder.

    Raises:
        FileNotFoundError: neither is there.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(folder / name)


def read_idx(path: Path) -> np.ndarray:
    """An idx file of unsigned bytes, gzipped or not, as a uint8 array of the shape that its header gives.

    Raises:
        BadInput: the file is cut short or is no idx file of unsigned bytes.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path} is damaged ({error}); fetch it again from {MIRROR}.") from error
    # Two zero bytes, 0x08 for unsigned bytes, the number of axes, then each axis as a big-endian 32-bit length.
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise BadInput(f"{path} is not an idx file of unsigned bytes; fetch it again from {MIRROR}.")
    start = 4 + 4 * raw[3]
    shape = struct.unpack(f">{raw[3]}I", raw[4:start]) if len(raw) >= start else None
    if shape is None or len(raw) - start != math.prod(shape):
        raise BadInput(f"{path} is cut short; fetch it again from {MIRROR}.")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy()


class FashionMNIST:
    """Fashion-MNIST (Xiao et al., 2017): 60,000 + 10,000 grey images of 28 x 28 pixels in ten classes."""

    def __init__(self, root: str | None = None, download: bool | None = None) -> None:
        """Looks in ``root``, ``root/FashionMNIST/raw`` and the folder of Debian's package
        ``dataset-fashion-mnist``.

        Args:
            download: fetch the files into ``root`` when they are nowhere; the default is to do so when no
                root is given.
        """
        self.root = Path(root).expanduser() if root is not None else DEFAULT_ROOT
        self.download = download if download is not None else root is None

    def check(self) -> None:
        """Raises BadInput if the files are nowhere and must not be fetched."""
        if not self.download:
            self.folder()

    def folder(self) -> Path:
        """The folder that holds all four files; downloads them when that is allowed and needed.

        Raises:
            BadInput: the files are nowhere and cannot be fetched.
        """
        for folder in (self.root, self.root / "FashionMNIST" / "raw", SYSTEM_FOLDER):
            if all((folder / name).is_file() or (folder / f"{name}.gz").is_file() for name in FILES):
                return folder
        if self.download:
            from torchvision.datasets.utils import download_url

            try:
                for name, md5 in FILES.items():
                    download_url(f"{MIRROR}{name}.gz", str(self.root), md5=md5)
                return self.root
            except (OSError, RuntimeError) as error:
                raise BadInput(f"Fashion-MNIST could not be downloaded ({error}); {self._layout()}") from error
        raise BadInput(f"Fashion-MNIST was not found in {self.root}; {self._layout()}")

    def _layout(self) -> str:
        names = ", ".join(f"{name}.gz" for name in FILES)
        return f"put {names} from {MIRROR} into a folder and set dataset.root to it."

    def fingerprint(self) -> str:
        """From the content of the four files."""
        folder = self.folder()
        paths = [find_idx(folder, name) for name in FILES]
        return fingerprint({"source": "idx", "files": [(path.name, file_digest(path)) for path in paths]})

    def load(self) -> Loaded:
        """Reads both splits into memory (55 MB).

        Raises:
            BadInput: a file is missing or damaged.
        """
        folder = self.folder()
        train, test = (self._split(folder, stem) for stem in ("train", "t10k"))
        return Loaded(
            train=train,
            test=test,
            class_names=FASHION_CLASSES,
            class_ids=numbered_ids(FASHION_CLASSES),
            channels=1,
            size=int(train.images.shape[-1]),
        )

    def _split(self, folder: Path, stem: str) -> TensorImages:
        import torch

        from teddy.data.images import TensorImages

        images = read_idx(find_idx(folder, f"{stem}-images-idx3-ubyte"))
        labels = read_idx(find_idx(folder, f"{stem}-labels-idx1-ubyte"))
        if images.ndim != 3 or labels.shape != images.shape[:1] or labels.max(initial=0) >= len(FASHION_CLASSES):
            raise BadInput(f"the {stem} files in {folder} are not Fashion-MNIST's; {self._layout()}")
        return TensorImages(torch.from_numpy(images)[:, None], torch.from_numpy(labels))
