"""IDM (Zhao, Li, Qin & Yu, CVPR 2023): class means and cross-entropy under a queue of networks in training.

For one network of the queue and one augmentation A in each iteration::

    L(S) = sum_c ||mu_c(A(S)) - mu_c(A(T))||^2 + ce_weight * accuracy * CE(A(S_c))

mu_c is the mean over class c of the last features, averaged over positions. The accuracy is the network's on the real images that
it was last trained on, in percent as published, so that a network counts as much as it has learned. All classes make one step
together, where the publication makes one for each class. Its partition and expansion is ``tiles: 2``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.utils import vector_to_parameters

from teddy.config.errors import UserError
from teddy.config.types import Count, Number, Positive, Weight
from teddy.data.spec import DatasetSpec
from teddy.methods.class_matching import ClassMatching
from teddy.methods.class_statistics import Named, RealClasses, Statistics, StatisticsNetwork
from teddy.models.networks import check_network, random_network, refuse_batchnorm
from teddy.models.stateless import StatelessNetwork
from teddy.runtime import seeding
from teddy.runtime.device import DeviceConfig
from teddy.synthesis.method import Inputs
from teddy.synthesis.optimized import State


@dataclass
class Queue(State):
    """Blocks, and the queue, whose networks are rows: the oldest row is the next to be replaced."""

    network: StatelessNetwork  # all of them, as a function of their weights
    weights: torch.Tensor  # (rows, P)
    momentum: torch.Tensor  # of their training (rows, P)
    accuracy: torch.Tensor  # in percent (rows,); 0 of a network that has not been trained


@dataclass(frozen=True, kw_only=True)
class IDM(ClassMatching):
    """Class means and cross-entropy of networks in training, which do not depend on the blocks: all see the same ones."""

    network: str  # without BatchNorm
    ce_weight: Weight  # for each percent of accuracy
    first: Count  # networks in the queue before the first iteration
    every: Count  # iterations between two new networks
    most: Count  # then a new network takes the place of the oldest
    trained: Number  # networks that are drawn and trained in each iteration, before one is drawn and matched
    train_steps: Count  # of each of these, on random real images
    network_lr: Positive
    network_momentum: Weight
    network_weight_decay: Weight
    network_batch_size: Count
    augmentations: Literal[0] = 0  # no bank can be measured for networks that change

    citation: ClassVar[str] = (
        "Zhao, Li, Qin & Yu, Improved Distribution Matching for Dataset Condensation, CVPR 2023 (arXiv 2307.09742)"
    )

    def check(self, members: int | None) -> None:
        check_network(self.network)
        if self.first > self.most:
            raise UserError(f"a queue of most={self.most} networks cannot begin with first={self.first}; raise most.")

    def check_data(self, spec: DatasetSpec) -> None:
        super().check_data(spec)
        refuse_batchnorm(self.network, spec)

    def networks(self, inputs: Inputs, device_config: DeviceConfig) -> Named:
        return []  # they are in the queue

    def setup(self, state: State) -> Queue:
        """A queue as long as it will become, with its first networks."""
        spec, device = state.shared.real.inputs.spec, state.pixels.device
        network = StatelessNetwork(random_network(self.network, spec).to(device))
        rows = min(self.most, self.first + (self.iterations - 1) // self.every)
        weights, momentum = torch.zeros(2, rows, len(network.initial), device=device)
        queue = Queue(
            **vars(state), network=network, weights=weights, momentum=momentum, accuracy=weights[:, 0].clone()
        )
        for number in range(self.first):
            self.join(queue, number)
        return queue

    def tensors(self, state: Any) -> dict[str, torch.Tensor]:
        return {"weights": state.weights, "momentum": state.momentum, "accuracy": state.accuracy}

    def join(self, state: Queue, number: int) -> None:
        """Let the network with this number, counted from the first one, join the queue."""
        fresh = random_network(self.network, state.shared.real.inputs.spec, state.seed, number)
        row = number % len(state.weights)
        state.weights[row] = state.network.flatten(fresh.state_dict()).to(state.weights.device)
        state.momentum[row] = state.accuracy[row] = 0

    def train(self, state: Queue, row: int, *keys: seeding.Key) -> None:
        """Train a network of the queue for some steps on random real images, and measure it on them."""
        real: RealClasses = state.shared.real
        weights, momentum, labels = state.weights[row], state.momentum[row], real.inputs.train.labels
        hits = torch.zeros_like(state.accuracy[row])
        for step in range(self.train_steps):
            draws = seeding.uniform(*keys, step, samples=np.arange(self.network_batch_size))[:, 0]
            chosen = torch.from_numpy((draws * len(labels)).astype(np.int64))
            truth = labels[chosen].to(weights.device)
            gradient, logits = state.network.gradient(weights, real.images(chosen), truth)
            momentum.mul_(self.network_momentum).add_(gradient).add_(weights, alpha=self.network_weight_decay)
            weights.sub_(momentum, alpha=self.network_lr)
            hits += (logits.argmax(1) == truth).float().mean()
        state.accuracy[row] = 100 * hits / self.train_steps

    def choose(self, state: Any, iteration: int) -> tuple[StatisticsNetwork, Statistics, int]:
        """A network of the queue, after it has grown and some of it have been trained."""
        number, rest = divmod(iteration, self.every)
        if number and not rest:
            self.join(state, self.first + number - 1)
        present = min(self.first + number, len(state.weights))
        keys = state.seed, "queue", iteration
        match, *train = (int(draw * present) for draw in seeding.uniform(*keys, draws=self.trained + 1)[0])
        for index, row in enumerate(train):
            self.train(state, row, *keys, index)
        real: RealClasses = state.shared.real
        network = random_network(self.network, real.inputs.spec).to(state.weights.device).eval().requires_grad_(False)
        vector_to_parameters(state.weights[match], network.parameters())
        matched = StatisticsNetwork(network, pooled=True)
        means = real.live(matched, state.seed, iteration)
        return matched, means | {"accuracy": state.accuracy[match]}, iteration

    def terms(
        self, own: Statistics, real: Statistics, classes: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        distance = (own["features0"] - real["features0"][classes]).square().sum()
        ce = F.cross_entropy(logits, labels)  # the mean over classes of one size
        loss = distance + self.ce_weight * real["accuracy"] * len(classes) * ce
        return {"loss": loss, "class_means": distance, "cross_entropy": ce, "network_accuracy": real["accuracy"]}
