"""What the pool says about a batch of views: the average of its teachers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from teddy.config.errors import BadInput


def _average_of_logits(members: torch.Tensor, temperature: float) -> torch.Tensor:
    return members.mean(0)


def _average_of_probabilities(members: torch.Tensor, temperature: float) -> torch.Tensor:
    # In log space a class that every teacher finds impossible keeps a finite logit.
    shares = torch.log_softmax(members / temperature, dim=2)
    return temperature * (torch.logsumexp(shares, dim=0) - math.log(len(members)))


AVERAGES: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "logits": _average_of_logits,
    "probabilities": _average_of_probabilities,
}
"""By the name in ``labels.average``; each takes the members' logits (members, B, C) and the temperature."""


def average_logits(members: Iterable[torch.Tensor], average: str = "logits", temperature: float = 1.0) -> torch.Tensor:
    """One set of logits for the whole pool.

    "logits" is the mean of the members' logits, ``1/|M| * sum h(A(X); theta)`` as the paper writes its soft
    label. "probabilities" gives the logits z with ``softmax(z / T) = mean_k softmax(z_k / T)``. At T = 20 the
    two nearly agree, at T = 1 they do not.

    Args:
        members: the logits (B, C) of each teacher in turn, at least one; an iterator is consumed one by one.
        temperature: T; only "probabilities" looks at it.

    Returns:
        Float32 (B, C).

    Raises:
        BadInput: ``average`` is unknown.
    """
    return _known(average)(torch.stack([logits.float() for logits in members]), temperature)


def _known(average: str) -> Callable[[torch.Tensor, float], torch.Tensor]:
    if average not in AVERAGES:
        raise BadInput(f"labels.average={average} is unknown; choose one of {', '.join(AVERAGES)}.")
    return AVERAGES[average]


class PoolLabeller:
    """Labels views with a pool of frozen teachers.

    Args:
        teachers: networks that map (B, C, H, W) to (B, classes), on the device of the views; they are put in
          evaluation mode.
        batch_size: how many views a teacher sees at once; bounds memory.
        precision: the type of autocast, such as ``torch.bfloat16``; None computes in float32.

    Raises:
        BadInput: ``average`` is unknown, or there is no teacher.
    """

    def __init__(
        self,
        teachers: Sequence[nn.Module],
        average: str = "logits",
        temperature: float = 20.0,
        batch_size: int = 256,
        precision: torch.dtype | None = None,
    ) -> None:
        if not teachers:
            raise BadInput("labels.members selects no teacher; choose 'all' or at least 1.")
        _known(average)
        self.teachers = [teacher.eval() for teacher in teachers]
        self.average = average
        self.temperature = temperature
        self.batch_size = batch_size
        self.precision = precision

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """The pool's logits, float32 (B, classes), for normalised images (B, C, H, W)."""
        enabled = self.precision is not None
        autocast = torch.autocast(images.device.type, dtype=self.precision or torch.bfloat16, enabled=enabled)
        with torch.inference_mode(), autocast:
            chunks = [
                average_logits((teacher(chunk) for teacher in self.teachers), self.average, self.temperature)
                for chunk in images.split(self.batch_size)
            ]
        # Joined out here, for autograd refuses to keep a tensor that was born in inference mode.
        return torch.cat(chunks)
