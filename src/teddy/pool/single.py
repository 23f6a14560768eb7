"""A pool of one fully trained teacher: the base model itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from teddy.pool.base import base_model, check_base
from teddy.pool.members import ModelPool
from teddy.pool.strategy import PoolStrategy
from teddy.pool.trajectory import BaseTraining


@dataclass(frozen=True)
class SinglePool(PoolStrategy):
    """The well-trained base model as the only teacher; ``base`` is its source, as in :func:`teddy.pool.base.base_model`."""

    base: str

    label: ClassVar[str] = "converged"

    def members(self, saved: Sequence[int]) -> int:
        return 1

    def check(self, base: BaseTraining) -> None:
        check_base(base, self.base)

    def make(self, base: BaseTraining) -> ModelPool:
        member = base_model(base, self.base)
        return ModelPool((member,), base.dataset.spec, self.label, seconds=member.seconds)
