"""CIFAR-10 and CIFAR-100 from the binary version of their distribution; the other version consists of
pickles.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from teddy.artifacts.fingerprint import file_digest, fingerprint
from teddy.config.errors import BadInput
from teddy.data.sources.base import Loaded, numbered_ids

if TYPE_CHECKING:
    from teddy.data.images import TensorImages

SITE = "https://www.cs.toronto.edu/~kriz/"
_PIXELS = 3 * 32 * 32


class _Cifar:
    """What the two share: records of some label bytes (the last one counts) and 3 x 32 x 32 pixels."""

    title: str
    archive: str
    md5: str
    inner: str
    pickled: str
    train_files: tuple[str, ...]
    test_files: tuple[str, ...]
    names_file: str
    label_bytes: int
    default_root: str

    def __init__(self, root: str | None = None, download: bool = True) -> None:
        """Looks in ``root`` and in the folder that the archive unpacks to below it.

        Args:
            download: fetch and unpack the archive into ``root`` when it is not there.
        """
        self.root = Path(root if root is not None else self.default_root).expanduser()
        self.download = download

    def check(self) -> None:
        """Raises BadInput if the files are not there and must not or cannot be put there."""
        self._found()

    def folder(self) -> Path:
        """The folder of the binary files; downloads them when that is allowed and needed.

        Raises:
            BadInput: the files are not there and cannot be fetched.
        """
        found = self._found()
        if found is not None:
            return found
        from torchvision.datasets.utils import download_and_extract_archive

        try:
            download_and_extract_archive(SITE + self.archive, str(self.root), md5=self.md5)
        except (OSError, RuntimeError) as error:
            raise BadInput(f"{self.title} could not be downloaded ({error}); {self._remedy()}") from error
        return self.root / self.inner

    def _found(self) -> Path | None:
        """The folder of the binary files; None if they are to be downloaded."""
        for folder in (self.root, self.root / self.inner):
            if all((folder / name).is_file() for name in self._names()):
                return folder
        if (self.root / self.pickled).is_dir() or self.root.name == self.pickled:
            raise BadInput(
                f"{self.root} holds the python version of {self.title}, which consists of pickles that are "
                "never loaded; "
                f"unpack {SITE}{self.archive} there instead."
            )
        if any(self.root.glob("*.parquet")):
            raise BadInput(
                f"{self.root} holds parquet files, which dataset=hf reads; choose that or another dataset.root."
            )
        if not self.download:
            raise BadInput(f"{self.title} was not found in {self.root}; {self._remedy()}")
        return None

    def _remedy(self) -> str:
        return f"unpack {SITE}{self.archive} into {self.root} or set dataset.root to the folder that holds it."

    def _names(self) -> tuple[str, ...]:
        return (*self.train_files, *self.test_files, self.names_file)

    def fingerprint(self) -> str:
        """From the content of all files."""
        folder = self.folder()
        return fingerprint(
            {"source": self.title, "files": [(name, file_digest(folder / name)) for name in self._names()]}
        )

    def load(self) -> Loaded:
        """Reads both splits into memory (180 MB).

        Raises:
            BadInput: a file is missing or damaged.
        """
        folder = self.folder()
        names = tuple((folder / self.names_file).read_text().split())
        return Loaded(
            train=self._split(folder, self.train_files, len(names)),
            test=self._split(folder, self.test_files, len(names)),
            class_names=names,
            class_ids=numbered_ids(names),
            channels=3,
            size=32,
        )

    def _split(self, folder: Path, files: tuple[str, ...], classes: int) -> TensorImages:
        import torch

        from teddy.data.images import TensorImages

        parts = []
        for name in files:
            raw = np.fromfile(folder / name, np.uint8)
            if raw.size == 0 or raw.size % (self.label_bytes + _PIXELS):
                raise BadInput(f"{folder / name} is cut short; unpack {SITE}{self.archive} again.")
            parts.append(raw.reshape(-1, self.label_bytes + _PIXELS))
        records = np.concatenate(parts)
        labels = records[:, self.label_bytes - 1]
        if labels.max() >= classes:
            raise BadInput(f"{folder} holds labels beyond the {classes} classes; unpack {SITE}{self.archive} again.")
        images = np.ascontiguousarray(records[:, self.label_bytes :]).reshape(-1, 3, 32, 32)
        return TensorImages(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))


class CIFAR10(_Cifar):
    """CIFAR-10 (Krizhevsky, 2009): 50,000 + 10,000 colour images of 32 x 32 pixels in ten classes."""

    title = "CIFAR-10"
    archive = "cifar-10-binary.tar.gz"
    md5 = "c32a1d4ab5d03f1284b67883e8d87530"
    inner = "cifar-10-batches-bin"
    pickled = "cifar-10-batches-py"
    train_files = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
    test_files = ("test_batch.bin",)
    names_file = "batches.meta.txt"
    label_bytes = 1
    default_root = "datasets/cifar10"


class CIFAR100(_Cifar):
    """CIFAR-100 (Krizhevsky, 2009) with its fine labels: 500 + 100 images of each of a hundred classes."""

    title = "CIFAR-100"
    archive = "cifar-100-binary.tar.gz"
    md5 = "03b5dce01913d631647c71ecec9e9cb8"
    inner = "cifar-100-binary"
    pickled = "cifar-100-python"
    train_files = ("train.bin",)
    test_files = ("test.bin",)
    names_file = "fine_label_names.txt"
    label_bytes = 2
    default_root = "datasets/cifar100"
