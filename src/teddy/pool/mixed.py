"""The teachers of two pools together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from teddy.config.errors import UserError
from teddy.pool.members import ModelPool
from teddy.pool.strategy import PoolStrategy
from teddy.pool.trajectory import BaseTraining


@dataclass(frozen=True)
class MixedPool(PoolStrategy):
    """All members of the first pool, then those of the second."""

    first: Any  # a pool strategy
    second: Any

    label: ClassVar[str] = "mixed"

    def __post_init__(self) -> None:
        for key, part in (("first", self.first), ("second", self.second)):
            if not isinstance(part, PoolStrategy):
                raise UserError(f"{key} of a mixed pool must have a _target_, as pool.strategy, and is {part!r}.")

    def members(self, saved: Sequence[int]) -> int | None:
        counts = [part.members(saved) for part in (self.first, self.second)]
        return None if None in counts else sum(counts)

    def trainings(self, base: BaseTraining) -> list[BaseTraining]:
        return [*self.first.trainings(base), *self.second.trainings(base)]

    def check(self, base: BaseTraining) -> None:
        self.first.check(base)
        self.second.check(base)

    def make(self, base: BaseTraining) -> ModelPool:
        one, other = self.first.make(base), self.second.make(base)
        return ModelPool(
            one.members + other.members,
            one.spec,
            self.label,
            one.seconds + other.seconds,
            one.trajectories + other.trajectories,
        )
