"""Learning rates of teacher training, per epoch (Table 6)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How the base model is trained: SGD with these numbers.

    Attributes:
        schedule: "step" (times gamma every step_size epochs), "cosine" (to 0 over the epochs after warm-up) or "constant".
        warmup_epochs: epochs of a linear rise from one hundredth of ``lr``, as SRe2L's Tiny-ImageNet teachers.
    """

    epochs: int
    lr: float
    momentum: float
    weight_decay: float
    batch_size: int
    schedule: str
    step_size: int
    gamma: float
    warmup_epochs: int

    def lr_at(self, epoch: int) -> float:
        """The learning rate of the epoch that begins after ``epoch`` full ones."""
        if epoch < self.warmup_epochs:
            start = 0.01
            return self.lr * (start + (1 - start) * epoch / self.warmup_epochs)
        return self.lr * _FACTORS[self.schedule](self, epoch - self.warmup_epochs)


def _step(recipe: Recipe, epoch: int) -> float:
    return recipe.gamma ** ((epoch + recipe.warmup_epochs) // recipe.step_size)


def _cosine(recipe: Recipe, epoch: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * epoch / (recipe.epochs - recipe.warmup_epochs)))


_FACTORS: dict[str, Callable[[Recipe, int], float]] = {
    "step": _step,
    "cosine": _cosine,
    "constant": lambda recipe, epoch: 1.0,
}
