"""Teachers from files, such as those that travel with a set: nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from teddy.artifacts.fingerprint import file_digest
from teddy.config.errors import UserError
from teddy.models.networks import check_network
from teddy.pool.members import Member, ModelPool
from teddy.pool.strategy import PoolStrategy
from teddy.pool.trajectory import BaseTraining


@dataclass(frozen=True)
class GivenTeacher:
    """A network, its weights (safetensors), and what is known of it; ``history`` is that of its pruning."""

    network: str
    file: str
    epoch: float
    top1_holdout: float
    history: str | None = None


@dataclass(frozen=True)
class GivenPool(PoolStrategy):
    """Teachers in the order given."""

    teachers: list[GivenTeacher]

    label: ClassVar[str] = "given"

    def members(self, saved: Sequence[int]) -> int | None:
        return len(self.teachers) or None

    def check(self, base: BaseTraining) -> None:
        if not self.teachers:
            raise UserError("pool.strategy.teachers=[] names no teacher; give some, or choose another pool.")
        for one in self.teachers:
            check_network(one.network)
            if not Path(one.file).is_file():
                raise UserError(
                    f"pool.strategy.teachers: {one.file} is no file; name one with the weights of a teacher."
                )

    def make(self, base: BaseTraining) -> ModelPool:
        members = [
            Member(
                one.network,
                Path(one.file),
                one.epoch,
                file_digest(Path(one.file))[:16],
                one.top1_holdout,
                None if one.history is None else Path(one.history),
            )
            for one in self.teachers
        ]
        return ModelPool(tuple(members), base.dataset.spec, self.label)
