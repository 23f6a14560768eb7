"""The interface of a pool strategy, whose fields are the keys under ``pool.strategy``; ``docs/own_method.md`` shows one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from teddy.pool.members import ModelPool
from teddy.pool.trajectory import BaseTraining


class PoolStrategy(ABC):
    """Recipe for weak teachers from one base model."""

    label: ClassVar[str]  # name in tables and curves, such as prior

    def members(self, saved: Sequence[int]) -> int | None:
        """Count the teachers, as far as that can be told before any is made, from the epochs of the base model that are saved."""
        return None

    def trainings(self, base: BaseTraining) -> list[BaseTraining]:
        """The trainings whose whole trajectories are in the pool, for methods that match them."""
        return []

    def check(self, base: BaseTraining) -> None:  # noqa: B027 - optional
        """Raise UserError, with the key and the remedy, if ``make`` cannot work; called before anything is trained."""

    @abstractmethod
    def make(self, base: BaseTraining) -> ModelPool:
        """Make the pool, or find it in the store."""
