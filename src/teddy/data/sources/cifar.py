"""CIFAR-10 and CIFAR-100 from the binary version of their distribution; the python version consists of pickles."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from teddy.config.errors import UserError
from teddy.data.images import TensorImages
from teddy.data.sources.base import Loaded, numbered_ids
from teddy.data.sources.packed import PackedFiles

_PIXELS = 3 * 32 * 32


class _Cifar(PackedFiles):
    """Files of records: ``label_bytes`` labels, of which the last one counts, then 3 x 32 x 32 pixels."""

    site = "https://www.cs.toronto.edu/~kriz/"
    inner: str  # folder that the archive unpacks to
    pickled: str  # folder of the python version
    label_bytes: int

    def __init__(self, root: str | None = None) -> None:
        self.root = Path(root or f"datasets/{type(self).__name__.lower()}").expanduser()
        super().__init__([self.root, self.root / self.inner], may_download=True)

    def check(self) -> None:
        if self.find() is not None:
            return
        if (self.root / self.pickled).is_dir() or self.root.name == self.pickled:
            raise UserError(
                f"{self.root} holds the python version of {self.title}, which consists of pickles that are never "
                f"loaded; unpack {self.site}{next(iter(self.downloads))} there instead."
            )
        if any(self.root.glob("*.parquet")):
            raise UserError(f"{self.root} holds parquet files; choose dataset=hf, which reads them, or another root.")

    def load(self) -> Loaded:
        *train_files, test_file, names_file = self.files().values()
        names = tuple(names_file.read_text().split())
        train, test = (self._read(paths, len(names)) for paths in (train_files, [test_file]))
        return Loaded(train, test, names, numbered_ids(names), channels=3, size=32)

    def _read(self, paths: list[Path], classes: int) -> TensorImages:
        images, labels = [], []
        for path in paths:
            raw = np.frombuffer(self.read(path), np.uint8)
            if raw.size == 0 or raw.size % (self.label_bytes + _PIXELS):
                raise self.damaged(path, "it is cut short")
            records = raw.reshape(-1, self.label_bytes + _PIXELS)
            labels.append(records[:, self.label_bytes - 1])
            images.append(records[:, self.label_bytes :].reshape(-1, 3, 32, 32))
            if labels[-1].max() >= classes:
                raise self.damaged(path, f"it holds labels beyond the {classes} classes")
        return TensorImages(torch.from_numpy(np.concatenate(images)), torch.from_numpy(np.concatenate(labels)))


class CIFAR10(_Cifar):
    """CIFAR-10 (Krizhevsky, 2009): 50,000 + 10,000 colour images of 32 x 32 pixels in ten classes."""

    kind = title = "CIFAR-10"
    downloads: ClassVar = {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"}
    names = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin", "batches.meta.txt")
    inner, pickled = "cifar-10-batches-bin", "cifar-10-batches-py"
    label_bytes = 1


class CIFAR100(_Cifar):
    """CIFAR-100 (Krizhevsky, 2009) with its fine labels: 500 + 100 images of each of a hundred classes."""

    kind = title = "CIFAR-100"
    downloads: ClassVar = {"cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8"}
    names = ("train.bin", "test.bin", "fine_label_names.txt")
    inner, pickled = "cifar-100-binary", "cifar-100-python"
    label_bytes = 2
