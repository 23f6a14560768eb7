"""Label compression: a view's soft label is stored as all its logits, or as the largest ones and one for the others.

Stored labels are epochs x images x classes x 2 bytes, 30 GB for ImageNet-1K with 50 images per class and 300 epochs; ten logits
of a thousand, with their class indices and one logit for the rest, take 42 bytes instead of 2,000.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import torch

from teddy.config.errors import UserError


class Compression(ABC):
    """A format of soft labels on disk, whose title says what is stored of a view.

    ``parts`` are the tensors of a file by name, each (epochs, N, *part.shape) and of the type ``part.base``.
    """

    def __init__(self, num_classes: int, parts: Mapping[str, np.dtype], title: str) -> None:
        self.num_classes, self.parts, self.title = num_classes, parts, title

    def megabytes(self, epochs: int, num_images: int) -> float:
        return epochs * num_images * sum(part.itemsize for part in self.parts.values()) / 1e6

    @abstractmethod
    def pack(self, logits: torch.Tensor) -> dict[str, np.ndarray]:
        """The parts (B, ...) for logits (B, classes) that are finite in float16."""

    @abstractmethod
    def unpack(self, parts: Mapping[str, np.ndarray], device: torch.device) -> torch.Tensor:
        """Logits for parts (B, ...): float32 (B, classes) on ``device``."""


class AllLogits(Compression):
    """Every logit in float16."""

    def __init__(self, num_classes: int) -> None:
        kept = {"logits": np.dtype(("<f2", (num_classes,)))}
        super().__init__(num_classes, kept, f"all {num_classes} logits of a view")

    def pack(self, logits: torch.Tensor) -> dict[str, np.ndarray]:
        return {"logits": logits.to(torch.float16).cpu().numpy().astype("<f2")}

    def unpack(self, parts: Mapping[str, np.ndarray], device: torch.device) -> torch.Tensor:
        return torch.from_numpy(parts["logits"]).to(device, non_blocking=True).float()


class TopK(Compression):
    """The k largest logits in float16 with their class indices, and one more logit that stands for each other class.

    That one is ``T * (logsumexp(z_rest / T) - log(C - k))``: at temperature T the k classes keep their exact probabilities, and
    the remaining mass is spread evenly over the other C - k. Dropping the rest would not do: at T = 20 the softmax is nearly
    flat, the k classes hold little more than k / C of the mass, and a student of the renormalised remainder would learn that the
    dropped classes are impossible. Labels that are stored for one temperature do not serve another.
    """

    def __init__(self, num_classes: int, top_k: int, temperature: float) -> None:
        if not 1 <= top_k < num_classes:
            raise UserError(
                f"labels.top_k={top_k} must be at least 1 and less than the {num_classes} classes of the dataset; "
                "labels.top_k=null keeps them all."
            )
        index = np.min_scalar_type(num_classes - 1).newbyteorder("<")
        kept = {"logits": np.dtype(("<f2", (top_k,))), "rest": np.dtype("<f2"), "classes": np.dtype((index, (top_k,)))}
        title = f"the {top_k} largest of {num_classes} logits of a view, and one for the rest"
        super().__init__(num_classes, kept, title)
        self.top_k, self.temperature = top_k, temperature

    def pack(self, logits: torch.Tensor) -> dict[str, np.ndarray]:
        # Stable, so that equal logits are taken in the order of their classes on every device.
        ordered, classes = logits.float().sort(dim=1, descending=True, stable=True)
        largest, others = ordered[:, : self.top_k], ordered[:, self.top_k :]
        mean_log = torch.logsumexp(others / self.temperature, dim=1) - math.log(others.shape[1])
        found = {
            "logits": largest.half(),
            "classes": classes[:, : self.top_k],
            "rest": (self.temperature * mean_log).half(),
        }
        return {name: one.cpu().numpy().astype(self.parts[name].base) for name, one in found.items()}

    def unpack(self, parts: Mapping[str, np.ndarray], device: torch.device) -> torch.Tensor:
        logits, rest, classes = (
            torch.from_numpy(parts[name].astype(kind)).to(device, non_blocking=True)
            for name, kind in (("logits", np.float32), ("rest", np.float32), ("classes", np.int64))
        )
        return rest[:, None].repeat(1, self.num_classes).scatter_(1, classes, logits)


def compression(num_classes: int, top_k: int | None, temperature: float) -> Compression:
    """Choose the format for ``labels.top_k``: :class:`AllLogits` for None, else :class:`TopK`."""
    return AllLogits(num_classes) if top_k is None else TopK(num_classes, top_k, temperature)
