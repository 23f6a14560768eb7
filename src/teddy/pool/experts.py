"""Expert trajectories (Cazenavette et al., CVPR 2022): the weights of several independent trainings after every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from teddy.config.types import Count, Positive, Weight
from teddy.pool.members import ModelPool
from teddy.pool.schedule import Recipe
from teddy.pool.sharpness import Sharpness
from teddy.pool.strategy import PoolStrategy
from teddy.pool.trajectory import BaseTraining, trajectories
from teddy.runtime.seeding import stable_seed


@dataclass(frozen=True)
class Experts(PoolStrategy):
    """Trainings of one network from different initialisations by SGD at a constant rate; the last weights of each are a member.

    Each training is an artifact of its own, so a smaller ``count`` is part of a larger one, and a killed run loses one at most.
    """

    count: Count  # of trainings
    epochs: Count  # all are kept
    lr: Positive
    momentum: Weight
    weight_decay: Weight
    batch_size: Count
    network: str | None = None  # None: the run's
    sharpness: Sharpness | None = None  # for flat trajectories; None: plain SGD

    label: ClassVar[str] = "experts"

    def members(self, saved: Sequence[int]) -> int:
        return self.count

    def trainings(self, base: BaseTraining) -> list[BaseTraining]:
        recipe = Recipe(
            self.epochs, self.lr, self.momentum, self.weight_decay, self.batch_size, sharpness=self.sharpness
        )
        return [
            replace(
                base,
                network=self.network or base.network,
                recipe=recipe,
                save_every=1,
                seed=stable_seed(base.seed, "expert", index),
                holdout_seed=base.seed,
                name=f"pool/expert{index + 1}",
            )
            for index in range(self.count)
        ]

    def check(self, base: BaseTraining) -> None:
        self.trainings(base)[0].build_network()

    def make(self, base: BaseTraining) -> ModelPool:
        made = trajectories(self.trainings(base))
        members = tuple(one.members[-1] for one in made)
        return ModelPool(members, base.dataset.spec, self.label, sum(member.seconds for member in members), made)
