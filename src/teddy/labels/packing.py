"""How the soft label of a view lies on disk: all its logits, or the largest ones and one number for all the others.

Stored labels are epochs x images x classes x 2 bytes, for ImageNet-1K with 50 images per class and 300 epochs 30 GB; ten
logits of a thousand, with their class numbers and the rest, take 42 bytes instead of 2,000.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch

from teddy.config.errors import BadInput


class Packing(ABC):
    """A form of soft labels on disk.

    Attributes:
        entry: type of one view's label, with the shape that it adds to the array's, see :attr:`numpy.dtype.base` and
            :attr:`numpy.dtype.shape`.
        identity: what the form adds to a fingerprint.
    """

    entry: np.dtype[Any]
    identity: dict[str, Any]

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def megabytes(self, epochs: int, num_samples: int) -> float:
        """Size of the labels in MB (10^6 bytes), without the file's header."""
        return epochs * num_samples * self.entry.itemsize / 1e6

    @abstractmethod
    def __str__(self) -> str:
        """What is kept, in words."""

    @abstractmethod
    def pack(self, logits: torch.Tensor) -> np.ndarray:
        """Entries (B, ...) for logits (B, classes) that are finite in float16."""

    @abstractmethod
    def unpack(self, entries: np.ndarray, device: torch.device) -> torch.Tensor:
        """Logits for entries (B, ...): float32 (B, classes) on ``device``."""


class Dense(Packing):
    """Every logit in float16."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.entry = np.dtype(("<f2", (num_classes,)))
        self.identity = {}

    def __str__(self) -> str:
        return f"all {self.num_classes} logits of a view"

    def pack(self, logits: torch.Tensor) -> np.ndarray:
        return logits.to(torch.float16).cpu().numpy().astype("<f2")

    def unpack(self, entries: np.ndarray, device: torch.device) -> torch.Tensor:
        return torch.from_numpy(entries).to(device, non_blocking=True).float()


class TopK(Packing):
    """The k largest logits in float16 with their class numbers, and one more logit that stands for each other class.

    That one is ``T * (logsumexp(z_rest / T) - log(C - k))``: at temperature T the k classes have their exact probabilities,
    and what is left is spread evenly over the other C - k, so no mass is lost or moved but among the rest. Merely dropping
    the rest would not do: at T = 20 the softmax is nearly flat, the k classes hold little more than k / C of the mass, and
    a student of the renormalised remainder would learn that the dropped classes are impossible.

    Args:
        temperature: T, with which students soften the labels; labels stored at one temperature are not those of another.

    Raises:
        BadInput: ``top_k`` is not in 1 .. num_classes - 1.
    """

    def __init__(self, num_classes: int, top_k: int, temperature: float) -> None:
        super().__init__(num_classes)
        if not 1 <= top_k < num_classes:
            raise BadInput(
                f"labels.top_k={top_k} must be at least 1 and less than the {num_classes} classes of the dataset; "
                "labels.top_k=null keeps them all."
            )
        self.top_k = top_k
        self.temperature = temperature
        number = np.min_scalar_type(num_classes - 1).newbyteorder("<")
        self.entry = np.dtype([("logits", "<f2", (top_k,)), ("classes", number, (top_k,)), ("rest", "<f2")])
        self.identity = {"top_k": top_k}

    def __str__(self) -> str:
        return f"the {self.top_k} largest of {self.num_classes} logits of a view, and one for the rest"

    def pack(self, logits: torch.Tensor) -> np.ndarray:
        # Stable, so that equal logits are taken in the order of their classes wherever this runs.
        ordered, classes = logits.float().sort(dim=1, descending=True, stable=True)
        kept, others = ordered[:, : self.top_k], ordered[:, self.top_k :]
        mean_log = torch.logsumexp(others / self.temperature, dim=1) - math.log(others.shape[1])
        entries = np.empty(len(logits), self.entry)
        entries["logits"] = kept.to(torch.float16).cpu().numpy()
        entries["classes"] = classes[:, : self.top_k].cpu().numpy()
        entries["rest"] = (self.temperature * mean_log).to(torch.float16).cpu().numpy()
        return entries

    def unpack(self, entries: np.ndarray, device: torch.device) -> torch.Tensor:
        kept, rest = (
            torch.from_numpy(entries[name].astype(np.float32)).to(device, non_blocking=True)
            for name in ("logits", "rest")
        )
        classes = torch.from_numpy(entries["classes"].astype(np.int64)).to(device, non_blocking=True)
        return rest[:, None].repeat(1, self.num_classes).scatter_(1, classes, kept)


def packing(num_classes: int, top_k: int | None, temperature: float) -> Packing:
    """The form that ``labels.top_k`` asks for: :class:`Dense` for None, else :class:`TopK`."""
    return Dense(num_classes) if top_k is None else TopK(num_classes, top_k, temperature)
