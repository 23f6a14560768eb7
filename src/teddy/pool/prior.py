"""Prior generation (Sec. 3.3): the weak teachers are early snapshots of one training run from scratch.

Like every strategy it is made, and what it was given is checked, before torch is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from teddy.config.epochs import member_epochs

if TYPE_CHECKING:
    from teddy.pool.members import ModelPool
    from teddy.pool.trajectory import BaseTraining


class PoolStrategy(Protocol):
    """A way to make weak teachers from one base model."""

    def check(self, base: BaseTraining) -> None:
        """Raises BadInput if ``make`` could not work; called for every pool of a run before anything is trained."""
        ...

    def make(self, base: BaseTraining, label: str) -> ModelPool:
        """Makes the pool, or finds it in the store."""
        ...


class PriorPool:
    """Snapshots from epoch ``first`` to ``last`` every ``every`` epochs, T_b to T_e in steps of m in Eq. 7.

    Args:
        first: full epochs behind the first member.
        last: full epochs behind the last member; always a member. None: ``size`` members from ``first`` on (Fig. 2c).
        every: epochs between two members.
        size: instead of ``every``, this many members between the same ends (Fig. 3c).
    """

    def __init__(self, first: int, last: int | None, every: int, size: int | None = None) -> None:
        self.first, self.last, self.every, self.size = first, last, every, size

    def check(self, base: BaseTraining) -> None:
        """Nothing more to check: the epochs are checked against the training with the configuration."""

    def make(self, base: BaseTraining, label: str) -> ModelPool:
        """Trains the base model unless its trajectory is in the store, and selects from it.

        Raises:
            BadInput: the trajectory does not hold an epoch that is asked for.
        """
        from teddy.pool.members import ModelPool, select
        from teddy.pool.trajectory import trajectory

        members = trajectory(base)
        epochs = member_epochs(self.first, self.last, self.every, self.size, [int(member.epoch) for member in members])
        chosen = select(members, epochs)
        return ModelPool(chosen, base.dataset.spec, label, seconds=chosen[-1].seconds)
