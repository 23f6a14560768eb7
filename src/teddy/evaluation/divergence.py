"""KL divergence between students and the teachers of their pool (Fig. 2c)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torchmetrics.functional import kl_divergence

from teddy.data.batches import eval_batches
from teddy.data.images import ImageSet
from teddy.pool.members import ModelPool
from teddy.runtime.device import DeviceConfig

VERSION = 1


class Divergence:
    """KL divergence D(student || teacher) of the predictions on real images, for each teacher of a pool.

    Eq. 6 replaces a stretch of the student's training by one teacher; the divergence is the information lost when that
    teacher's prediction is taken for the student's. Neither student nor teachers were trained on the images, which ``identity``
    names in the student's fingerprint.
    """

    def __init__(
        self, pool: ModelPool, images: Callable[[], ImageSet], identity: dict[str, Any], device_config: DeviceConfig
    ) -> None:
        self.pool, self.images, self.device_config = pool, images, device_config
        self.identity = {"version": VERSION, "teachers": [member.identity for member in pool.members], **identity}

    def __call__(self, student: nn.Module) -> dict[str, float]:
        """Mean over the images in nats, by the teacher's name."""
        ours = self._log_probabilities(student)
        return {
            name: round(float(kl_divergence(ours, theirs, log_prob=True)), 5) for name, theirs in self._teachers.items()
        }

    @cached_property
    def _teachers(self) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        for index, member in enumerate(self.pool.members):
            name = f"epoch {member.epoch:g}"
            (teacher,) = self.pool.load_teachers(self.device_config, [index])  # one at a time in memory
            found[f"{name} #{index}" if name in found else name] = self._log_probabilities(teacher)
        return found

    @torch.inference_mode()
    def _log_probabilities(self, network: nn.Module) -> torch.Tensor:
        """(N, classes), float32, on the CPU."""
        training, device = network.training, next(network.parameters()).device
        network.eval()
        parts = []
        for images, *_ in eval_batches(self.images(), self.device_config.workers):
            inputs = self.pool.spec.normalise(images.to(device)).contiguous(memory_format=torch.channels_last)
            with self.device_config.autocast():
                logits = network(inputs)
            parts.append(logits.float().log_softmax(dim=1).cpu())
        network.train(training)
        return torch.cat(parts)
