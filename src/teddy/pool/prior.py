"""Prior generation (Sec. 3.3): the weak teachers are early snapshots of one training run from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from teddy.config.epochs import member_epochs
from teddy.config.types import Epoch
from teddy.pool.members import ModelPool, Trajectory
from teddy.pool.strategy import PoolStrategy
from teddy.pool.trajectory import BaseTraining, trajectory


@dataclass(frozen=True)
class PriorPool(PoolStrategy):
    """Snapshots from epoch ``first`` to ``last`` every ``every`` epochs, T_b to T_e in steps of m in Eq. 7."""

    first: Epoch  # full epochs behind the first member
    last: Epoch | None  # always a member; None: size members from first on (Fig. 2c)
    every: Epoch
    size: Epoch | None = None  # so many members between the same ends (Fig. 3c), whatever every is

    label: ClassVar[str] = "prior"

    def members(self, saved: Sequence[int]) -> int:
        return len(member_epochs(self.first, self.last, self.every, self.size, list(saved)))

    def trainings(self, base: BaseTraining) -> list[BaseTraining]:
        return [base]

    def make(self, base: BaseTraining) -> ModelPool:
        saved = trajectory(base)
        members = {int(member.epoch): member for member in saved}
        epochs = member_epochs(self.first, self.last, self.every, self.size, list(members))
        chosen = tuple(members[epoch] for epoch in epochs)
        whole = Trajectory(tuple(saved), base.dataset.spec, base.seed)
        return ModelPool(chosen, base.dataset.spec, self.label, chosen[-1].seconds, (whole,))
