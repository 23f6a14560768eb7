"""Fashion-mini: the small real dataset inside the package, so that everything runs offline right after installation."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import numpy as np
import torch

from teddy.artifacts.fingerprint import file_digest, fingerprint
from teddy.config.errors import UserError
from teddy.data.images import TensorImages
from teddy.data.sources.base import Loaded, numbered_ids
from teddy.data.sources.idx import CLASSES

_FILE = Path(str(importlib.resources.files("teddy.data") / "embedded" / "fashion_mini.npz"))


class FashionMini:
    """200 training and 50 test images of each Fashion-MNIST class, from the matching splits, at 28 x 28 pixels."""

    def __init__(self, root: str | None = None) -> None:
        if root is not None:
            raise UserError("dataset.root has no effect on fashion_mini; remove it or choose dataset=fashion_mnist.")

    def check(self) -> None:
        pass  # the images ship with the package

    def fingerprint(self) -> str:
        return fingerprint({"source": "fashion_mini", "sha256": file_digest(_FILE)})

    def load(self) -> Loaded:
        with np.load(_FILE, allow_pickle=False) as arrays:
            tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        train, test = (
            TensorImages(tensors[f"{split}_images"][:, None], tensors[f"{split}_labels"]) for split in ("train", "test")
        )
        return Loaded(train, test, CLASSES, numbered_ids(CLASSES), channels=1, size=28)
