"""The base of methods that match statistics of classes, under one network and one augmentation in each iteration."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch

from teddy.config.types import Count, Number, Positive, Weight
from teddy.methods.class_statistics import Named, RealClasses, Statistics, StatisticsNetwork
from teddy.runtime import seeding
from teddy.runtime.device import DeviceConfig
from teddy.synthesis.method import Inputs
from teddy.synthesis.optimized import OptimizedMethod, State


@dataclass(frozen=True)
class Shared:
    """What all blocks share: the real classes, the networks, and the bank of each; no banks under live batches."""

    real: RealClasses
    networks: list[StatisticsNetwork]
    banks: list[Statistics]


@dataclass(frozen=True, kw_only=True)
class ClassMatching(OptimizedMethod):
    """A method that matches class statistics by SGD on the pixels."""

    lr: Positive  # for one image of a class; grows with their number, by which the gradient of a mean falls
    momentum: Weight
    strategy: Literal["dsa", "dsa_no_flip", "dsa_strong", "dsa_strong_matching"]
    augmentations: Number  # draws of DSA that each bank holds; 0: live batches, other images and another draw each time
    real_images: Count  # of each class that are measured at a time, at most

    @abstractmethod
    def networks(self, inputs: Inputs, device_config: DeviceConfig) -> Named:
        """The networks that are matched, one in each iteration."""

    @abstractmethod
    def terms(
        self, own: Statistics, real: Statistics, classes: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Named scalars of a block, of which the first is its loss.

        Its own statistics are by class (n, ·), those of ``classes`` (n,); the real ones are of all classes (classes, ·). The
        logits (N, classes), and among the statistics ``last``, the last features (N, D), are those of its images, whose classes
        are ``labels`` (N,).
        """

    def prepare(self, inputs: Inputs, device_config: DeviceConfig) -> Shared:
        real = RealClasses(inputs, device_config, self.strategy, self.real_images)
        made = self.networks(inputs, device_config)
        banks = real.banks(made, self.augmentations) if self.augmentations else []
        return Shared(real, [network for _, network in made], banks)

    def optimizer(self, state: State) -> torch.optim.Optimizer:
        return torch.optim.SGD([state.pixels], self.lr * len(state.pixels) / _groups(state), self.momentum)

    def index(self, networks: list[StatisticsNetwork], uniform: float) -> int:
        """The iteration's network, by a number in [0, 1)."""
        return int(uniform * len(networks))

    def choose(self, state: State, iteration: int) -> tuple[StatisticsNetwork, Statistics, int]:
        """The iteration's network, the real statistics (classes, ·) under it, and the draw of DSA that both sides see."""
        shared: Shared = state.shared
        first, second = seeding.uniform(state.seed, "class matching", iteration, draws=2)[0]
        index = self.index(shared.networks, first)
        network = shared.networks[index]
        if not shared.banks:
            return network, shared.real.live(network, state.seed, iteration), iteration
        row = int(second * self.augmentations)
        real = {name: statistics[row] for name, statistics in shared.banks[index].items()}
        return network, real, network.number * self.augmentations + row

    def step(self, state: State, iteration: int) -> dict[str, torch.Tensor]:
        network, real, draw = self.choose(state, iteration)
        groups, blocks = _groups(state), len(state.blocks)
        own, logits, last = network(state.shared.real.augmented(state.images, draw), groups)
        own["last"] = last
        classes = state.labels.view(groups, -1)[:, 0]
        parts = zip(classes.chunk(blocks), logits.float().chunk(blocks), state.labels.chunk(blocks), strict=True)
        rows = [
            self.terms({name: each.chunk(blocks)[index] for name, each in own.items()}, real, *part)
            for index, part in enumerate(parts)
        ]
        terms = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        next(iter(terms.values())).sum().backward()
        return {name: term.detach() for name, term in terms.items()}


def _groups(state: State) -> int:
    """How many groups of images of one class the blocks are, one after the other and all of one size."""
    return sum(len(set(block.classes)) for block in state.blocks)
