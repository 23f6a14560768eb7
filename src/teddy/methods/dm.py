"""DM (Zhao & Bilen, WACV 2023): the class means of the last features of random networks.

``L(S) = sum_c ||mu_c(A(S)) - mu_c(A(T))||^2`` for a new network and a new augmentation in each iteration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from teddy.config.errors import UserError
from teddy.config.types import Number
from teddy.methods.class_matching import ClassMatching
from teddy.methods.class_statistics import (
    Named,
    Statistics,
    StatisticsNetwork,
    untrained_network,
    untrained_networks,
)
from teddy.models.networks import check_network
from teddy.runtime.device import DeviceConfig
from teddy.synthesis.method import Inputs
from teddy.synthesis.optimized import State


@dataclass(frozen=True, kw_only=True)
class DM(ClassMatching):
    """Class means of random networks."""

    network: str  # BatchNorm layers have the statistics of real images
    count: Number  # of networks, which take turns at random; 0: a new one in each iteration, for live batches

    version: ClassVar[int] = 2
    citation: ClassVar[str] = (
        "Zhao & Bilen, Dataset Condensation with Distribution Matching, WACV 2023 (arXiv 2110.04181)"
    )

    def check(self, members: int | None) -> None:
        check_network(self.network)
        if self.augmentations and not self.count:
            raise UserError(
                "methods.dm.count=0 makes a new network in each iteration, for which no bank can be measured; set "
                "methods.dm.augmentations=0 or a number of networks, such as methods.dm.count=100."
            )

    def networks(self, inputs: Inputs, device_config: DeviceConfig) -> Named:
        return untrained_networks(inputs, device_config, self.network, self.count)

    def choose(self, state: State, iteration: int) -> tuple[StatisticsNetwork, Statistics, int]:
        if self.count:
            return super().choose(state, iteration)
        real = state.shared.real
        network = untrained_network(real.inputs, real.device_config, self.network, state.seed, iteration)
        return network, real.live(network, state.seed, iteration), iteration

    def terms(
        self, own: Statistics, real: Statistics, classes: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return {"class_means": (own["features0"] - real["features0"][classes]).square().sum()}
