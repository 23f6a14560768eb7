"""The base of methods that differentiate through the training of a student on the synthetic set.

The student takes plain SGD steps ``theta <- theta - alpha * grad CE(theta; A(S_b))`` on batches S_b of the set; alpha is learned
with the images. All arithmetic is in float32, since differences of weights after few steps are small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from teddy.config.errors import UserError
from teddy.config.types import Count, Positive, Weight
from teddy.data.dsa import dsa
from teddy.data.spec import DatasetSpec
from teddy.models.networks import build_network
from teddy.models.stateless import StatelessNetwork
from teddy.runtime import seeding
from teddy.runtime.device import DeviceConfig
from teddy.runtime.memory import free_bytes, graph_bytes
from teddy.synthesis.optimized import OptimizedMethod, State

LEAST_RATE = 1e-4  # the learned rate goes no lower: at zero or below, students would not learn
# Memory by what autograd keeps of an inner step, as measured on a CPU: of a step, and of the way back through all of them.
STEP, WAY_BACK = 1.4, 4

Batch = Callable[[int], tuple[torch.Tensor, torch.Tensor]]  # augmented images and targets of an inner step


def unroll(
    network: StatelessNetwork, weights: torch.Tensor, batch: Batch, steps: Iterable[int], rate: torch.Tensor
) -> torch.Tensor:
    """Weights (P,) after SGD steps, differentiable with respect to the batches' images and the rate."""
    weights = weights.detach().requires_grad_()
    for index in steps:
        weights = weights - rate * network.gradient(weights, *batch(index), create_graph=True)[0]
    return weights


def walk(
    network: StatelessNetwork, weights: torch.Tensor, batch: Batch, steps: Iterable[int], rate: torch.Tensor
) -> list[torch.Tensor]:
    """Weights before and after each of the same steps, without a graph."""
    path = [weights.detach()]
    for index in steps:
        with torch.no_grad():
            fixed = batch(index)
        path.append(path[-1] - rate.detach() * network.gradient(path[-1], *fixed)[0])
    return path


@dataclass
class UnrolledState(State):
    """The images, the learning rate that is learned with them, a scalar, and the moving average of the images' pixels."""

    rate: nn.Parameter
    average: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Unrolled(OptimizedMethod):
    """A method with an inner training; all images are one block, since they train one student."""

    lr: Positive  # of the pixels
    inner_steps: Count
    inner_lr: Positive  # the student's, at the start
    lr_lr: Weight  # of the student's rate
    batch_syn: Count | None  # images of an inner step, in a new order whenever all have had their turn; None: all
    strategy: Literal["none", "dsa", "dsa_strong", "dsa_strong_matching"]  # of DSA in the inner steps

    remedy: ClassVar[str]  # for too large a graph

    def check(self, members: int | None) -> None:
        if self.batch_size is not None or self.blocks_at_once > 1:
            raise UserError(
                f"{self.title} trains one student on all images; leave batch_size=null and blocks_at_once=1, and set batch_syn "
                "for smaller inner batches."
            )

    def check_data(self, spec: DatasetSpec) -> None:
        super().check_data(spec)
        count = self._count(spec)
        if self.batch_syn is not None and self.batch_syn > count:
            raise UserError(
                f"batch_syn={self.batch_syn} of {self.title} is more than the {count} images of the set; lower it, or null "
                "takes all."
            )

    @property
    def graph_steps(self) -> int:
        """Inner steps that are in the graph at once."""
        return self.inner_steps

    def check_memory(self, network: str, spec: DatasetSpec, device_config: DeviceConfig, real: int = 0) -> None:
        """Raise UserError if the graph of an iteration, in which ``real`` images follow the inner steps, exceeds the memory."""
        steps = self.graph_steps
        shape = (spec.channels, spec.size, spec.size)
        stateless = StatelessNetwork(build_network(network, spec.num_classes, *shape[:2]).to("meta"))
        weights, rate = stateless.initial.requires_grad_(), torch.empty((), device="meta", requires_grad=True)
        count = self.batch_syn or self._count(spec)
        images = torch.empty(count, *shape, device="meta", requires_grad=True)
        batch = images, torch.empty(count, dtype=torch.int64, device="meta")
        one = graph_bytes(lambda: unroll(stateless, weights, lambda _: batch, range(1), rate))
        needed = (STEP * steps + WAY_BACK) * one
        needed += graph_bytes(lambda: stateless(weights, torch.empty(real, *shape, device="meta"))) if real else 0
        free = free_bytes(device_config.accelerator)
        if free is not None and needed > free:
            raise UserError(
                f"{self.title} keeps the graph of {steps} inner steps of {count} images of {network}, about {needed / 1e9:.1f} "
                f"GB, and {free / 1e9:.1f} GB are free; {self.remedy}."
            )

    def setup(self, state: State) -> UnrolledState:
        rate = torch.tensor(self.inner_lr, dtype=torch.float32, device=state.pixels.device)
        return UnrolledState(**vars(state), rate=nn.Parameter(rate), average=state.pixels.detach().clone())

    def parameter_groups(self, state: Any) -> list[dict[str, Any]]:
        return [{"params": [state.pixels], "lr": self.lr}, {"params": [state.rate], "lr": self.lr_lr}]

    def tensors(self, state: Any) -> dict[str, torch.Tensor]:
        return {"rate": state.rate}

    def facts(self, state: Any) -> dict[str, Any]:
        return {"learned_lr": self.rate(state).item()}

    @torch.no_grad()
    def rate(self, state: UnrolledState) -> nn.Parameter:
        """The learned rate, brought back to the least one where a step has left it below."""
        state.rate.clamp_(min=LEAST_RATE)
        return state.rate

    def batch(
        self, state: State, targets: torch.Tensor, iteration: int, index: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and targets of inner step ``index``, of the targets of all: classes (N,) or probabilities (N, classes)."""
        images, size = state.images, self.batch_syn or len(targets)
        if size < len(targets):
            turn, part = divmod(index, math.ceil(len(targets) / size))
            order = seeding.permutation(len(targets), state.seed, "inner batch", iteration, turn)
            chosen = torch.from_numpy(order[part * size : (part + 1) * size]).to(images.device)
            images, targets = images[chosen], targets[chosen]
        keys = state.seed, "inner step", iteration, index
        seeding.seed_torch(*keys)  # for dropout
        return dsa(images, *keys, strategy=self.strategy), targets

    def _count(self, spec: DatasetSpec) -> int:
        return spec.num_classes * self.ipc * self.tiles**2
