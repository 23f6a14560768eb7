"""Post-generation (Sec. 3.3, D.1): weak teachers pruned from one well-trained base model, and fine-tuned very briefly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from teddy.config.errors import UserError
from teddy.config.schema import EPOCHS, MOST
from teddy.config.types import Count, Number, Positive, Weight
from teddy.pool.base import base_model, check_base
from teddy.pool.members import ModelPool
from teddy.pool.pruned_model import PrunedModel, PruningConfig, check_targets
from teddy.pool.schedule import FineTune
from teddy.pool.strategy import PoolStrategy
from teddy.pool.trajectory import BaseTraining

Target = Annotated[float, Field(gt=0, allow_inf_nan=False)] | None  # a float, so that 1.2e9 is 1200000000


@dataclass(frozen=True)
class PostPool(PoolStrategy):
    """Pruned models, each from its own seed and fine-tuned for its own budget.

    The budgets ``epochs * (k / (size - 1)) ** 2`` are dense at the start, where accuracy recovers fast, so that the pool
    resembles the accuracy curve of a trajectory.
    """

    size: Count  # a single member is not fine-tuned
    base: str  # as in base_model
    macs: Target  # at most so many multiply-adds; up to 1: a share of the base model's; None: no target
    parameters: Target  # likewise
    step: Annotated[float, Field(gt=0, le=0.5)]  # share of each layer's channels that a step of pruning takes
    epochs: Annotated[float, Field(ge=0, le=EPOCHS)]  # longest budget
    lr: Positive  # in the first third of a budget
    lr_end: Positive  # in the last; between them their geometric mean
    momentum: Annotated[float, Field(ge=0, le=1)]
    weight_decay: Weight
    batch_size: Annotated[int, Field(ge=2, le=MOST)]
    recalibrate: Number  # training images that give new BatchNorm statistics after pruning; 0: the base model's stay

    label: ClassVar[str] = "post"

    def __post_init__(self) -> None:
        if self.macs is None and self.parameters is None:
            raise UserError(
                "pool.strategy.macs and pool.strategy.parameters are both null; give a target, such as 0.66."
            )
        if self.lr_end > self.lr:
            raise UserError(f"pool.strategy.lr_end={self.lr_end} must be at most pool.strategy.lr={self.lr}.")

    def members(self, saved: Sequence[int]) -> int:
        return self.size

    def check(self, base: BaseTraining) -> None:
        check_base(base, self.base)
        check_targets(base.network, base.dataset.spec, self.macs, self.parameters, self.step)

    def make(self, base: BaseTraining) -> ModelPool:
        self.check(base)
        origin = base_model(base, self.base)
        plan = FineTune(self.lr, self.lr_end, self.momentum, self.weight_decay, self.batch_size)
        pruning = PruningConfig(self.macs, self.parameters, self.step, self.recalibrate)
        members = tuple(
            PrunedModel(base, origin, pruning, plan, self.budget(index), index, self.size).member()
            for index in range(self.size)
        )
        seconds = origin.seconds + sum(member.seconds for member in members)
        return ModelPool(members, base.dataset.spec, self.label, seconds=seconds)

    def budget(self, index: int) -> float:
        return round(self.epochs * (index / (self.size - 1)) ** 2, 4) if self.size > 1 else 0.0
