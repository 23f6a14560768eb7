"""How far a student is from the teachers that stood in for it (Fig. 2c)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import nn

from teddy.data.batches import test_batches
from teddy.data.images import ImageSet
from teddy.pool.members import ModelPool
from teddy.runtime.precision import Compute

VERSION = 1


class Divergence:
    """KL divergence D(student || teacher) of the predictions on real images, for each teacher of a pool.

    Eq. 6 replaces a stretch of the student's training by one teacher; the divergence is the information lost when that
    teacher's prediction is taken for the student's.

    Args:
        images: opens real images that neither side was trained on.
        identity: what names the images, for the student's fingerprint.
    """

    def __init__(
        self, pool: ModelPool, images: Callable[[], ImageSet], identity: dict[str, Any], compute: Compute
    ) -> None:
        self.pool, self.images, self.compute = pool, images, compute
        self.identity = {"version": VERSION, "teachers": [member.identity for member in pool.members], **identity}

    def __call__(self, student: nn.Module) -> dict[str, float]:
        """Mean over the images in nats, by the teacher's name."""
        mine = self._log_probabilities(student)
        return {name: round(kl(mine, theirs), 5) for name, theirs in self._teachers.items()}

    @cached_property
    def _teachers(self) -> dict[str, torch.Tensor]:
        known: dict[str, torch.Tensor] = {}
        for index, member in enumerate(self.pool.members):
            name = f"epoch {member.epoch:g}"
            name = f"{name} #{index}" if name in known else name
            known[name] = self._log_probabilities(
                self.pool.load(index, self.compute.device, self.compute.frozen_weights)
            )
        return known

    @torch.inference_mode()
    def _log_probabilities(self, network: nn.Module) -> torch.Tensor:
        """(N, classes), float32, on the CPU."""
        training, device = network.training, next(network.parameters()).device
        network.eval()
        parts = []
        for images, *_ in test_batches(self.images(), self.compute.workers):
            inputs = self.pool.spec.normalise(images.to(device)).contiguous(memory_format=torch.channels_last)
            with self.compute.autocast():
                logits = network(inputs)
            parts.append(logits.float().log_softmax(dim=1).cpu())
        network.train(training)
        return torch.cat(parts)


def kl(first: torch.Tensor, second: torch.Tensor) -> float:
    """Mean over rows of D(first || second) in nats; both are log-probabilities (N, classes)."""
    return float((first.exp() * (first - second)).sum(dim=1).mean())
