"""MTT (Cazenavette et al., CVPR 2022): match a student's training trajectory on the synthetic set to an expert's on real images.

``L(S, alpha) = ||theta_N(S, alpha) - theta*_{t+M}||^2 / ||theta*_t - theta*_{t+M}||^2``: from a random expert's weights after t
epochs, N inner steps on the set are to arrive where the expert is M epochs later. FTD (Du et al., CVPR 2023) is the same with
flat experts (:mod:`teddy.pool.sharpness`) and a moving average of the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch

from teddy.config.errors import UserError
from teddy.config.types import Beta, Count
from teddy.methods.unrolled import Batch, Unrolled, UnrolledState, unroll
from teddy.models.stateless import StatelessNetwork
from teddy.pool.members import Trajectory
from teddy.pool.strategy import PoolStrategy
from teddy.pool.trajectory import BaseTraining
from teddy.runtime import seeding
from teddy.runtime.device import DeviceConfig
from teddy.synthesis.method import Inputs, Needs
from teddy.synthesis.optimized import State


@dataclass(frozen=True)
class Shared:
    """The trajectories, their network, and the epochs at which a segment may start."""

    trajectories: Sequence[Trajectory]
    network: StatelessNetwork
    starts: list[int]


@dataclass(frozen=True, kw_only=True)
class MTT(Unrolled):
    """Matching of training trajectories."""

    expert_epochs: Count  # M
    max_start_epoch: Count  # segments start at an epoch below it, from 0 on
    momentum: Beta
    ema_decay: Beta  # of the images' moving average, which is then the result; 0: the images themselves

    citation: ClassVar[str] = (
        "Cazenavette et al., Dataset Distillation by Matching Training Trajectories, CVPR 2022 (arXiv 2203.11932)"
    )

    remedy: ClassVar[str] = "lower inner_steps or batch_syn, or choose method=tesla, which keeps one step"

    def needs(self) -> Needs:
        return Needs(pool=True, data=self.initial == "real")

    def check_run(self, strategy: PoolStrategy, base: BaseTraining) -> None:
        trainings = strategy.trainings(base)
        if not trainings:
            raise UserError(
                f"{self.title} matches training trajectories, which a pool of kind {strategy.label} does not have; leave the "
                "method's pool as it was, or set pool=prior."
            )
        first = trainings[0]
        self.starts([0, *first.saved])
        self.check_memory(first.network, first.dataset.spec, base.device_config)

    def starts(self, epochs: Sequence[int]) -> list[int]:
        """Epochs at which a segment may start, of those whose weights are kept; UserError if these are too few."""
        last, found = self.max_start_epoch - 1 + self.expert_epochs, set(epochs)
        starts = [one for one in epochs if one < self.max_start_epoch and one + self.expert_epochs in found]
        if max(epochs) < last or not starts:
            raise UserError(
                f"{self.title} needs the weights of epochs up to {last} (max_start_epoch={self.max_start_epoch}, "
                f"expert_epochs={self.expert_epochs}), but its pool keeps {', '.join(map(str, epochs))}; lower these, or train "
                "longer and keep every epoch (epochs of the method's pool; pool.training.epochs and save_every of the run's)."
            )
        return starts

    def prepare(self, inputs: Inputs, device_config: DeviceConfig) -> Shared:
        trajectories = inputs.pool.trajectories
        network = StatelessNetwork(trajectories[0].untrained().to(device_config.device))
        return Shared(trajectories, network, self.starts(trajectories[0].epochs))

    def optimizer(self, state: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameter_groups(state), momentum=self.momentum)

    def tensors(self, state: Any) -> dict[str, torch.Tensor]:
        return super().tensors(state) | ({"average": state.average} if self.ema_decay else {})

    def result(self, state: Any) -> torch.Tensor:
        return state.average.lerp(state.pixels.detach(), 1 - self.ema_decay)

    def segment(self, state: State, iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
        """An expert's weights (P,) at both ends of the iteration's segment."""
        shared: Shared = state.shared
        first, second = seeding.uniform(state.seed, "segment", iteration, draws=2)[0]
        trajectory = shared.trajectories[int(first * len(shared.trajectories))]
        start = shared.starts[int(second * len(shared.starts))]
        ends = (trajectory.weights(start), trajectory.weights(start + self.expert_epochs))
        return tuple(shared.network.flatten(end).to(state.pixels.device) for end in ends)  # type: ignore[return-value]

    def step(self, state: Any, iteration: int) -> dict[str, torch.Tensor]:
        if self.ema_decay:
            state.average.lerp_(state.pixels.detach(), 1 - self.ema_decay)
        with torch.autocast(state.pixels.device.type, enabled=False):
            start, target = self.segment(state, iteration)
            batch = partial(self.batch, state, self.targets(state, target), iteration)
            distance = self.match(state, start, target, batch)
        return {"trajectory_distance": distance.detach(), "learned_lr": state.rate.detach().clone()}

    def targets(self, state: State, expert: torch.Tensor) -> torch.Tensor:
        """What the student learns the images as: their classes (N,)."""
        return state.labels

    def match(self, state: UnrolledState, start: torch.Tensor, target: torch.Tensor, batch: Batch) -> torch.Tensor:
        """L, whose gradient is left in ``.grad`` of the pixels and the rate."""
        end = unroll(state.shared.network, start, batch, range(self.inner_steps), self.rate(state))
        distance = (end - target).square().sum() / (start - target).square().sum()
        distance.backward(inputs=[state.pixels, state.rate])
        return distance
