"""The teachers that travel with a set as a pool: nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from teddy.config.errors import UserError
from teddy.pool.members import Member, ModelPool
from teddy.pool.strategy import PoolStrategy
from teddy.pool.trajectory import BaseTraining
from teddy.sets.folder import open_set


@dataclass(frozen=True)
class GivenPool(PoolStrategy):
    """The teachers in the folder of a set."""

    folder: str | None

    label: ClassVar[str] = "given"

    def check(self, base: BaseTraining) -> None:
        if self.folder is None or not self._members():
            raise UserError(
                f"pool.strategy.folder={self.folder} is no set that holds its teachers; choose another pool."
            )

    def make(self, base: BaseTraining) -> ModelPool:
        return ModelPool(tuple(self._members()), base.dataset.spec, self.label)

    def _members(self) -> Sequence[Member]:
        path, about = Path(self.folder or ""), open_set(Path(self.folder or "")).description
        return [
            Member(
                one.network,
                path / one.file,
                one.epoch,
                about.files[one.file].sha256[:16],
                one.top1_holdout,
                None if one.history is None else path / one.history,
            )
            for one in about.labels.teachers
            if one.file is not None
        ]
