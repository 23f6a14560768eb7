"""Soft labels of a batch of views: the mean of the teachers' logits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import torch
from torch import nn


def spread_members(size: int, count: int | None) -> list[int]:
    """Choose ``count`` of a pool's ``size`` members, evenly spread, which the paper leaves open (Fig. 3b); None means all."""
    if count is None or count >= size:
        return list(range(size))
    if count == 1:
        return [size - 1]
    return [round(i * (size - 1) / (count - 1)) for i in range(count)]


class PoolLabeller:
    """The mean of the logits of frozen teachers, ``1/|M| * sum_k h(A(X); theta_k)``; of some classes alone, if they are named."""

    def __init__(
        self,
        teachers: Sequence[nn.Module],
        autocast: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
        classes: Sequence[int] | None = None,
    ) -> None:
        self.teachers, self.autocast = [teacher.eval() for teacher in teachers], autocast
        self.classes = None if classes is None else list(classes)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Mean logits, float32 (B, classes), for normalised images (B, C, H, W)."""
        with torch.inference_mode(), self.autocast():
            logits = torch.stack([teacher(images).float() for teacher in self.teachers]).mean(0)
        chosen = logits if self.classes is None else logits[:, self.classes]
        return chosen.clone()  # because autograd cannot save a tensor that was made in inference mode
