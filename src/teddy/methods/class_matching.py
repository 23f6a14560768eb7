"""The base of methods that match statistics of classes, under one network and one augmentation in each iteration."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import torch

from teddy.config.types import Count, Number, Positive, Weight
from teddy.methods.class_statistics import RealClasses, Statistics, StatisticsNetwork
from teddy.runtime import seeding
from teddy.runtime.device import DeviceConfig
from teddy.runtime.progress import StageProgress
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
    """A method that matches class statistics by SGD on the pixels.

    Attributes:
        lr, momentum: of SGD. The rate is ``lr`` for one image per class and grows with their number, by which the gradient of a
            mean falls.
        strategy: of DSA; see :data:`teddy.data.dsa.STRATEGIES`.
        augmentations: how many draws of DSA the banks hold; 0: live batches, which are other real images under another draw in
            each iteration.
        real_images: of each class that are measured at a time, at most.
    """

    lr: Positive
    momentum: Weight
    strategy: Literal["dsa", "dsa_no_flip", "dsa_strong", "dsa_strong_matching"]
    augmentations: Number
    real_images: Count

    @abstractmethod
    def networks(self, inputs: Inputs, device_config: DeviceConfig) -> list[tuple[dict[str, Any], StatisticsNetwork]]:
        """The networks, each behind what names its statistics in fingerprints."""

    @abstractmethod
    def terms(
        self, own: Statistics, real: Statistics, classes: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Named scalars of a block, of which the first is its loss.

        Args:
            own: of the block's images, by class (n, ·).
            real: of all classes (classes, ·).
            classes: the class of each row of ``own`` (n,).
            logits: of the block's images (N, classes).
            labels: of the block's images (N,).
        """

    def prepare(self, inputs: Inputs, device_config: DeviceConfig) -> Shared:
        """Load the networks, and their banks, which are measured unless they are in the store."""
        real = RealClasses(inputs, device_config, self.strategy, self.real_images)
        made = self.networks(inputs, device_config)
        banks = []
        if self.augmentations:
            with StageProgress("class statistics", len(made) * inputs.spec.num_classes, "classes") as progress:
                for identity, network in made:
                    banks.append(real.bank(network, identity, self.augmentations, progress))
                megabytes = sum(tensor.nbytes for bank in banks for tensor in bank.values()) / 1e6
                progress.advance(0, MB=megabytes)
        return Shared(real, [network for _, network in made], banks)

    def optimizer(self, state: State) -> torch.optim.Optimizer:
        return torch.optim.SGD([state.pixels], self.lr * len(state.pixels) / _groups(state), self.momentum)

    def choose(self, state: State, iteration: int) -> tuple[StatisticsNetwork, Statistics, int]:
        """The iteration's network, the real statistics (classes, ·) under it, and the draw of DSA that both sides see."""
        shared: Shared = state.shared
        first, second = seeding.uniform(state.seed, "class matching", iteration, draws=2)[0]
        index = int(first * len(shared.networks))
        network = shared.networks[index]
        if not shared.banks:
            return network, shared.real.live(network, state.seed, iteration), iteration
        draw = int(second * self.augmentations)
        return network, {name: statistics[draw] for name, statistics in shared.banks[index].items()}, draw

    def step(self, state: State, iteration: int) -> dict[str, torch.Tensor]:
        """The gradient for the iteration's network and augmentation."""
        network, real, draw = self.choose(state, iteration)
        groups, blocks = _groups(state), len(state.blocks)
        own, logits = network(state.shared.real.augmented(state.images, draw), groups)
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
