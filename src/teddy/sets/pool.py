"""The teachers that travel with a set as a pool: nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from teddy.config.errors import UserError
from teddy.pool.members import ModelPool
from teddy.pool.strategy import PoolStrategy
from teddy.pool.trajectory import BaseTraining
from teddy.sets.folder import open_set


@dataclass(frozen=True)
class GivenPool(PoolStrategy):
    """The teachers in the folder of a set."""

    folder: str | None

    label: ClassVar[str] = "given"

    def check(self, base: BaseTraining) -> None:
        if self.folder is None or not open_set(Path(self.folder)).teachers:
            raise UserError(f"pool.strategy.folder={self.folder} holds no teachers; choose another pool.")

    def make(self, base: BaseTraining) -> ModelPool:
        return ModelPool(open_set(Path(str(self.folder))).teachers, base.dataset.spec, self.label)
