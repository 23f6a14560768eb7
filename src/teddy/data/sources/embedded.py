"""Fashion-mini: the small real dataset inside the package, so that everything runs offline right after
installation.
"""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import numpy as np

from teddy.artifacts.fingerprint import file_digest, fingerprint
from teddy.config.errors import BadInput
from teddy.data.sources.base import Loaded, numbered_ids
from teddy.data.sources.idx import FASHION_CLASSES


class FashionMini:
    """200 training and 50 test images of each Fashion-MNIST class, from the matching splits, at 28 x 28
    pixels.
    """

    def __init__(self, root: str | None = None) -> None:
        """Takes no folder: the images ship with the package.

        Raises:
            BadInput: a folder was given, which would have no effect.
        """
        if root is not None:
            raise BadInput("dataset.root has no effect on fashion_mini; remove it or choose dataset=fashion_mnist.")

    def _file(self) -> Path:
        return Path(str(importlib.resources.files("teddy.data") / "embedded" / "fashion_mini.npz"))

    def check(self) -> None:
        """Nothing to look for: the images ship with the package."""

    def fingerprint(self) -> str:
        """From the file's content."""
        return fingerprint({"source": "fashion_mini", "sha256": file_digest(self._file())})

    def load(self) -> Loaded:
        """Reads both splits into memory (2 MB)."""
        import torch

        from teddy.data.images import TensorImages

        with np.load(self._file(), allow_pickle=False) as arrays:
            train, test = (
                TensorImages(
                    torch.from_numpy(arrays[f"{split}_images"])[:, None],
                    torch.from_numpy(arrays[f"{split}_labels"]),
                )
                for split in ("train", "test")
            )
        return Loaded(
            train=train,
            test=test,
            class_names=FASHION_CLASSES,
            class_ids=numbered_ids(FASHION_CLASSES),
            channels=1,
            size=28,
        )
