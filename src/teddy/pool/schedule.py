"""Hyper-parameters of SGD and their learning rates: of the base model per epoch, of a pruned model per step (Table 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from teddy.pool.sharpness import Sharpness


@dataclass(frozen=True)
class Recipe:
    """Training of the base model."""

    epochs: int
    lr: float
    momentum: float
    weight_decay: float
    batch_size: int
    schedule: str = "constant"  # "step", "cosine" (to 0 over the epochs after warm-up) or "constant"
    step_size: int = 1  # epochs, after each of which a step schedule multiplies by gamma
    gamma: float = 1.0
    warmup_epochs: int = 0  # of a linear rise from lr / 100, as torchvision's reference training
    sharpness: Sharpness | None = None

    def factor(self, epoch: int) -> float:
        """Learning rate of the epoch that begins after ``epoch`` full ones, as a multiple of ``lr``."""
        if epoch < self.warmup_epochs:
            return 0.01 + (1 - 0.01) * epoch / self.warmup_epochs
        if self.schedule == "step":
            return self.gamma ** (epoch // self.step_size)
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * (epoch - self.warmup_epochs) / (self.epochs - self.warmup_epochs)))
        return 1.0


@dataclass(frozen=True)
class FineTune:
    """Fine-tuning of a pruned model: each third of the steps has its own rate, ``lr``, the geometric mean, ``lr_end``."""

    lr: float
    lr_end: float
    momentum: float
    weight_decay: float
    batch_size: int
    sharpness: ClassVar[None] = None

    def factor(self, step: int, steps: int) -> float:
        """Learning rate of the step that begins after ``step`` of ``steps``, as a multiple of ``lr``."""
        third = min(3 * step // steps, 2)  # a scheduler also asks for the rate after the last step
        return (1.0, math.sqrt(self.lr_end / self.lr), self.lr_end / self.lr)[third]
