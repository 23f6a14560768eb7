"""Few-shot teachers: trainings on a few random real images of each class, as students have; the nearest to these (Fig. 2c)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from teddy.config.errors import UserError
from teddy.config.types import Count, Positive, Weight
from teddy.pool.members import ModelPool
from teddy.pool.schedule import Recipe
from teddy.pool.strategy import PoolStrategy
from teddy.pool.trajectory import BaseTraining, trajectories
from teddy.runtime.seeding import stable_seed


@dataclass(frozen=True)
class FewShotPool(PoolStrategy):
    """Trainings of the run's network at a constant rate, each on other images; all weights that are kept are members.

    Each training is an artifact of its own, so a smaller ``count`` is part of a larger one, and a killed run loses one at most.
    """

    count: Count  # of trainings
    images: Count  # of each class in a training, at most
    epochs: Count  # full passes over them
    every: Count  # epochs between two members of a training
    lr: Positive
    momentum: Weight
    weight_decay: Weight
    batch_size: Count

    label: ClassVar[str] = "few-shot"

    def members(self, saved: Sequence[int]) -> int:
        return self.count * (self.epochs // self.every)

    def trainings(self, base: BaseTraining) -> list[BaseTraining]:
        recipe = Recipe(self.epochs, self.lr, self.momentum, self.weight_decay, self.batch_size)
        return [
            replace(
                base,
                recipe=recipe,
                save_every=self.every,
                few_shot=self.images,
                seed=stable_seed(base.seed, "few-shot", index),
                holdout_seed=base.seed,
                name=f"pool/few-shot{index + 1}",
            )
            for index in range(self.count)
        ]

    def check(self, base: BaseTraining) -> None:
        if self.epochs % self.every:
            raise UserError(
                f"a few-shot training of {self.epochs} epochs does not end with a member every {self.every} epochs; make epochs "
                "of the pool's strategy a multiple of every."
            )

    def make(self, base: BaseTraining) -> ModelPool:
        made = trajectories(self.trainings(base))
        members = tuple(member for one in made for member in one.members)
        return ModelPool(members, base.dataset.spec, self.label, sum(one.members[-1].seconds for one in made), made)
