"""Gradient matching: DC (Zhao, Mopuri & Bilen, ICLR 2021), and with Siamese augmentation DSA (Zhao & Bilen, ICML 2021).

For a network that is trained on the synthetic images S between the steps, whose weights are theta::

    L(S) = sum_c D( d CE(A(S_c)) / d theta, d CE(A(T_c)) / d theta )
    D(g, h) = sum over layers and their outputs o of 1 - <g_o, h_o> / (||g_o|| ||h_o|| + 1e-6)

T_c is a random batch of class c, and A a draw of DSA that both sides see, or nothing in DC. g_o is the gradient of what leads to
output o of a convolution or a linear layer; vectors, such as biases, do not count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from teddy.config.errors import UserError
from teddy.config.types import Count, Number, Positive, Weight
from teddy.data.dsa import dsa
from teddy.data.spec import DatasetSpec
from teddy.methods.class_statistics import RealClasses
from teddy.models.networks import check_network, random_network, refuse_batchnorm
from teddy.models.stateless import StatelessNetwork
from teddy.runtime import seeding
from teddy.runtime.device import DeviceConfig
from teddy.synthesis.method import Inputs
from teddy.synthesis.optimized import OptimizedMethod, State

EPS = 1e-6


def gradient_distance(own: Mapping[str, torch.Tensor], real: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """D of two gradients, by the names of the weights; a scalar."""
    pairs = [(own[name].flatten(1), real[name].flatten(1)) for name in own if own[name].dim() > 1]
    cosines = [(g * h).sum(1) / (g.norm(dim=1) * h.norm(dim=1) + EPS) for g, h in pairs]
    return (1 - torch.cat(cosines)).sum()


@dataclass
class Inner(State):
    """A block, and the network that is trained on it, as a function of its weights (P,)."""

    network: StatelessNetwork
    weights: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class GradientMatching(OptimizedMethod):
    """Gradients of networks in training, matched by SGD on the pixels, in float32 whatever the precision of the run.

    Each block trains a network of its own; by default all images are one block.
    """

    network: str  # without BatchNorm, as each class has a batch of its own
    lr: Positive  # of the pixels
    momentum: Weight
    outer_loops: Count | None  # steps of a network, after which a new random one takes its place; None: IPC
    inner_loops: Number | None  # epochs of the network between two steps; None: 500 / IPC, rounded up to fives
    network_lr: Positive  # of these epochs
    network_batch_size: Count
    strategy: Literal["none", "dsa", "dsa_strong", "dsa_strong_matching"]  # of DSA, in matching and in these epochs
    real_images: Count  # of a class, in each step

    citation: ClassVar[str] = (
        "Zhao, Mopuri & Bilen, Dataset Condensation with Gradient Matching, ICLR 2021 (arXiv 2006.05929); "
        "Zhao & Bilen, Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021 (arXiv 2102.08259)"
    )

    def check(self, members: int | None) -> None:
        check_network(self.network)
        if self.blocks_at_once > 1:
            raise UserError(
                f"blocks_at_once={self.blocks_at_once} would train one network on several blocks, which gradient matching trains "
                "one by one; leave blocks_at_once at 1."
            )

    def check_data(self, spec: DatasetSpec) -> None:
        super().check_data(spec)
        refuse_batchnorm(self.network, spec)

    def prepare(self, inputs: Inputs, device_config: DeviceConfig) -> RealClasses:
        return RealClasses(inputs, device_config, self.strategy, self.real_images)

    def setup(self, state: State) -> Inner:
        network = StatelessNetwork(random_network(self.network, state.shared.inputs.spec).to(state.pixels.device))
        return Inner(**vars(state), network=network, weights=network.initial.clone())

    def tensors(self, state: Any) -> dict[str, torch.Tensor]:
        return {"weights": state.weights}

    def optimizer(self, state: State) -> torch.optim.Optimizer:
        return torch.optim.SGD([state.pixels], self.lr, self.momentum)

    def loops(self) -> tuple[int, int]:
        inner = 5 * math.ceil(100 / self.ipc) if self.inner_loops is None else self.inner_loops
        return self.outer_loops or self.ipc, inner

    def step(self, state: Any, iteration: int) -> dict[str, torch.Tensor]:
        """The gradient of L, class by class, so that the memory is that of one class."""
        with torch.autocast(state.pixels.device.type, enabled=False):
            self.train(state, iteration)
            images = state.images
            slopes, distance = torch.zeros_like(images), torch.zeros_like(images[0, 0, 0, 0])
            for label in sorted(set(state.labels.tolist())):
                members = state.labels == label
                own = images.detach()[members].requires_grad_()
                one = self.distance(state, own, label, iteration)
                slopes[members] = torch.autograd.grad(one, own)[0]
                distance += one.detach()
            images.backward(slopes)
        return {"gradient_distance": distance}

    def distance(self, state: Inner, own: torch.Tensor, label: int, iteration: int) -> torch.Tensor:
        """D for the images (N, C, H, W) of one class."""
        gradients = []
        for images in (own, state.shared.live_batch(label, state.seed, iteration).to(own)):
            keys = state.seed, "gradient matching", label, iteration
            views = dsa(images, *keys, strategy=self.strategy, siamese=True)
            labels = torch.full((len(images),), label, device=own.device)
            gradients.append(state.network.gradient(state.weights, views, labels, create_graph=images is own)[0])
        return gradient_distance(*map(state.network.unflatten, gradients))

    def train(self, state: Inner, iteration: int) -> None:
        """Take a new network, or train the present one on the images as they are."""
        keys = state.seed, state.blocks[0].index, iteration
        outer, inner = self.loops()
        if iteration % outer == 0:
            fresh = random_network(self.network, state.shared.inputs.spec, *keys)
            state.weights.copy_(state.network.flatten(fresh.state_dict()))
            return
        images = state.images.detach()
        for epoch in range(inner):
            order = torch.from_numpy(seeding.permutation(len(images), "inner order", *keys, epoch)).to(images.device)
            for index, batch in enumerate(order.split(self.network_batch_size)):
                views = dsa(images[batch], "inner views", *keys, epoch, index, strategy=self.strategy)
                gradient, _ = state.network.gradient(state.weights, views, state.labels[batch])
                state.weights.sub_(self.network_lr * gradient)
