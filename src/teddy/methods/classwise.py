"""Class-wise matching of weak teachers: Eq. 5 with the class means of Prop. 2 and the class-wise statistics of Table 3.

For one network k and one augmentation A in each iteration::

    L(S) = sum_d sum_c ||mu_dc(S) - mu_dc(T)||^2 / sum_c ||mu_dc(T) - mu_d(T)||^2
         + alpha * mean_c sum_l ( ||mean_lc(S) - mean_lc(T)|| + ||var_lc(S) - var_lc(T)|| )
         + u * CE(h_k(A(S)), y)
         + beta * ||W(S) f_k(A(T')) - y||^2

mu_dc is the mean over class c of the input of layer d, one of the last layers with weights, and mu_d the mean of the mu_dc; the
last one's are the class means of Prop. 2. mean_lc and var_lc are those of the input of BatchNorm layer l. The quotient makes the
first term independent of the size of the features, which differs between layers and networks. k is a weak teacher or, for the
variety of many networks at the price of a bank, a few-shot teacher or a random network, which are without cross-entropy. The last
term is Eq. 2's loss of the real images for a last layer W trained on S (:mod:`teddy.methods.readout`), on a random batch T'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional as F

from teddy.config.types import Count, Number, Share, Weight
from teddy.methods.class_matching import ClassMatching
from teddy.methods.class_statistics import Named, Statistics, StatisticsNetwork, teachers, untrained_networks
from teddy.methods.readout import readout_error
from teddy.pool.strategy import PoolStrategy
from teddy.pool.trajectory import BaseTraining
from teddy.runtime.device import DeviceConfig
from teddy.synthesis.method import Inputs, Needs, later, untrained_teacher
from teddy.synthesis.optimized import State, cosine


def relative_distance(own: torch.Tensor, real: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Squared distance of the means (n, D) of some classes (n,) to the real ones (classes, D), over the real scatter."""
    scatter = (real - real.mean(0)).square().sum() * (len(classes) / len(real))
    return (own - real[classes]).square().sum() / scatter


def layer_distance(own: Statistics, real: Statistics, classes: torch.Tensor) -> torch.Tensor:
    """Distances of the BatchNorm layers' means and variances to the real ones: summed over layers, mean over classes."""
    layers = [(own[name] - real[name][classes]).norm(dim=1) for name in own if name.startswith(("mean", "var"))]
    return torch.stack(layers).sum(0).mean()


@dataclass(frozen=True, kw_only=True)
class ClassWise(ClassMatching):
    """Class-wise statistics and cross-entropy of one network in each iteration; the learning rate falls by a cosine."""

    depth: Count  # last layers whose inputs are matched
    ce_weight: Weight  # u
    bn_weight: Weight  # alpha; 0 leaves the BatchNorm layers out, for networks without them
    random_networks: Number = later(0)  # networks before any training beside the teachers, without cross-entropy
    ce_share: Share | None = later(None)  # of the iterations under networks with cross-entropy; None: by their number
    readout_weight: Weight = later(0.0)  # beta
    readout_images: Count = later(512)  # of the real batch

    version: ClassVar[int] = 2

    def needs(self) -> Needs:
        return Needs(pool=True, data=True)

    def check_run(self, strategy: PoolStrategy, base: BaseTraining) -> None:
        StatisticsNetwork(untrained_teacher(strategy, base), self.depth, self.bn_weight > 0)

    def networks(self, inputs: Inputs, device_config: DeviceConfig) -> Named:
        measured, architecture = (self.depth, self.bn_weight > 0), inputs.pool.members[0].network
        untrained = untrained_networks(inputs, device_config, architecture, self.random_networks, *measured)
        return teachers(inputs, device_config, *measured) + untrained

    def index(self, networks: list[StatisticsNetwork], uniform: float) -> int:
        groups = [[index for index, one in enumerate(networks) if one.trained is trained] for trained in (True, False)]
        if self.ce_share is None or not all(groups):
            return super().index(networks, uniform)
        if uniform < self.ce_share:
            return groups[0][int(uniform / self.ce_share * len(groups[0]))]
        rest = (uniform - self.ce_share) / (1 - self.ce_share)
        return groups[1][min(int(rest * len(groups[1])), len(groups[1]) - 1)]

    def choose(self, state: State, iteration: int) -> tuple[StatisticsNetwork, Statistics, int]:
        network, real, draw = super().choose(state, iteration)
        real = real | {"trained": torch.tensor(float(network.trained))}
        if self.readout_weight:
            batch = state.shared.real.batch(network, self.readout_images, state.seed, iteration, draw)
            real["batch"], real["batch_labels"] = batch
        return network, real, draw

    def lr_factor(self, iteration: int) -> float:
        return cosine(iteration, self.iterations)

    def terms(
        self, own: Statistics, real: Statistics, classes: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        features = [f"features{index}" for index in range(self.depth)]
        distance = torch.stack([relative_distance(own[name], real[name], classes) for name in features]).sum()
        ce = F.cross_entropy(logits, labels)
        terms = {"class_means": distance, "cross_entropy": ce}
        loss = distance + self.ce_weight * real["trained"] * ce
        if self.readout_weight:
            num_classes = len(real["features0"])
            terms["readout"] = readout_error(own["last"], labels, real["batch"], real["batch_labels"], num_classes)
            loss = loss + self.readout_weight * terms["readout"]
        if self.bn_weight:
            terms["batchnorm"] = layer_distance(own, real, classes)
            loss = loss + self.bn_weight * terms["batchnorm"]
        return {"loss": loss, **terms}
