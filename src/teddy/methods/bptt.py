"""Meta-learning by backpropagation through training: Eq. 1, in the form of Wang et al. (2018, arXiv 1811.10959).

``min_{S, alpha} E_{theta_0} CE(theta_T(S, alpha); real batch)``: a student with random weights takes T inner steps on the set,
and its loss on real images afterwards is the loss of the set. With a window W only the last W steps are differentiated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch.nn import functional as F

from teddy.config.errors import UserError
from teddy.config.types import Beta, Count
from teddy.data.spec import DatasetSpec
from teddy.methods.unrolled import Batch, Unrolled, UnrolledState, unroll, walk
from teddy.models.networks import check_network, random_network
from teddy.models.stateless import StatelessNetwork
from teddy.pool.strategy import PoolStrategy
from teddy.pool.trajectory import BaseTraining
from teddy.runtime import seeding
from teddy.runtime.device import DeviceConfig
from teddy.synthesis.method import Inputs
from teddy.synthesis.optimized import State

HALVINGS = 10  # how often the learning rates are halved over the run, as published


@dataclass(frozen=True)
class Shared:
    """The student, and where the real images that it is measured on come from."""

    network: StatelessNetwork
    inputs: Inputs


@dataclass(frozen=True, kw_only=True)
class BPTT(Unrolled):
    """Backpropagation through the student's training; Adam on pixels and rate."""

    network: str  # of the student
    window: Count | None  # W; None: all inner steps
    real_images: Count  # in the batch of an iteration
    betas: tuple[Beta, Beta]

    citation: ClassVar[str] = "Wang et al., Dataset Distillation, 2018 (arXiv 1811.10959)"
    remedy: ClassVar[str] = "lower inner_steps, batch_syn or real_images, or set a smaller window"

    @property
    def graph_steps(self) -> int:
        return self.window or self.inner_steps

    def check(self, members: int | None) -> None:
        super().check(members)
        check_network(self.network)
        if self.graph_steps > self.inner_steps:
            raise UserError(
                f"window={self.window} of {self.title} is longer than the training, inner_steps={self.inner_steps}; lower it, or "
                "null takes all steps."
            )

    def check_run(self, strategy: PoolStrategy, base: BaseTraining) -> None:
        self.check_memory(self.network, base.dataset.spec, base.device_config, self.real_images)

    def prepare(self, inputs: Inputs, device_config: DeviceConfig) -> Shared:
        return Shared(self.student(inputs.spec, device_config.device), inputs)

    def student(self, spec: DatasetSpec, device: torch.device, *keys: seeding.Key) -> StatelessNetwork:
        return StatelessNetwork(random_network(self.network, spec, *keys).to(device))

    def optimizer(self, state: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameter_groups(state), betas=self.betas)

    def lr_factor(self, iteration: int) -> float:
        return 0.5 ** (HALVINGS * iteration // self.iterations)

    def real_batch(self, state: State, iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Random real images, normalised (B, C, H, W), and their classes."""
        inputs, device = state.shared.inputs, state.pixels.device
        order = seeding.permutation(len(inputs.train), state.seed, "real batch", iteration)
        chosen = torch.from_numpy(order[: self.real_images])
        return inputs.spec.normalise(inputs.train.take(chosen)).to(device), inputs.train.labels[chosen].to(device)

    def step(self, state: Any, iteration: int) -> dict[str, torch.Tensor]:
        device = state.pixels.device
        with torch.autocast(device.type, enabled=False):
            start = self.student(state.shared.inputs.spec, device, state.seed, iteration).initial
            batch = partial(self.batch, state, state.labels, iteration)
            loss = self.loss(state, start, batch, *self.real_batch(state, iteration))
            loss.backward(inputs=[state.pixels, state.rate])
        return {"real_loss": loss.detach(), "learned_lr": state.rate.detach().clone()}

    def loss(
        self, state: UnrolledState, start: torch.Tensor, batch: Batch, images: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Cross-entropy of a real batch (B, C, H, W), (B,) after a student's training from weights (P,)."""
        network, rate, first = state.shared.network, self.rate(state), self.inner_steps - self.graph_steps
        start = walk(network, start, batch, range(first), rate)[-1]
        end = unroll(network, start, batch, range(first, self.inner_steps), rate)
        return F.cross_entropy(network(end, images), labels)
