"""How a pruned copy of the base model is made, in numbers (D.1, Table 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class FineTune:
    """SGD over a budget of steps, of which each third has its own learning rate: ``lr``, the geometric mean, ``lr_end``."""

    lr: float
    lr_end: float
    momentum: float
    weight_decay: float
    batch_size: int

    def lr_at(self, step: int, steps: int) -> float:
        """The learning rate of the step that begins after ``step`` of ``steps``."""
        return (self.lr, math.sqrt(self.lr * self.lr_end), self.lr_end)[3 * step // steps]


@dataclass(frozen=True)
class Recut:
    """How a copy is made; see :class:`teddy.pool.post.PostPool` for the numbers."""

    macs: float | None
    parameters: float | None
    step: float
    recalibrate: int
    plan: FineTune
