"""Statistics of classes under a network; the real side is measured once for fixed augmentations, or on live batches.

The means of a class's last features are the second term of Eq. 4 (Prop. 2), those of earlier layers go further; mean and variance
of the inputs of BatchNorm layers over a class are the class-wise form of Eq. 7 (Table 3). Real and synthetic images see the same
augmentation (Siamese). A bank holds the real side for a few fixed augmentations; it belongs to one network, and is shared by all
IPC, seeds and initialisations. Teachers of one training see the same augmentations and real images; each training and each random
network, has its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from teddy.data.dsa import dsa
from teddy.methods.batchnorm import BatchNormWithStatistics, StatisticsCollector, replace_batchnorm
from teddy.models.features import FeatureNetwork
from teddy.models.networks import random_network
from teddy.runtime import seeding
from teddy.runtime.device import DeviceConfig
from teddy.runtime.distributed import is_leader
from teddy.runtime.progress import StageProgress
from teddy.runtime.resume import load_tensors, save_tensors
from teddy.synthesis.init import shuffled_class
from teddy.synthesis.method import Inputs

BANK_VERSION = 2
BANK = "class_statistics.safetensors"
BATCHNORM_IMAGES = 512  # real images that BatchNorm statistics of a random network are measured on
Statistics = dict[str, torch.Tensor]
"""Tensors by name: ``features0``, ``features1``, … from the last layer backwards, (..., D), and ``mean0``, ``var0``, … of the
BatchNorm layers, (..., channels).
"""


class StatisticsNetwork:
    """A frozen network that also gives statistics of groups of images: of its features, and of its BatchNorm layers' inputs."""

    def __init__(
        self,
        network: nn.Module,
        depth: int = 1,
        batchnorm: bool = False,
        pooled: bool = False,
        number: int = 0,
        trained: bool = True,
    ) -> None:
        """``number`` names the augmentations: random networks count up from 1, trainings after a pool's first down from -1.

        ``trained`` is whether it was trained on all images, so that its predictions are worth something.
        """
        self.number, self.trained = number, trained
        self._network, self._collector = FeatureNetwork(network, depth, pooled), StatisticsCollector()
        if batchnorm:
            replace_batchnorm(network, lambda layer: BatchNormWithStatistics(layer, self._collector))

    def __call__(self, images: torch.Tensor, groups: int = 1) -> tuple[Statistics, torch.Tensor, torch.Tensor]:
        """Statistics of each group, float32 (groups, ·), of images (N, C, H, W), group after group.

        Besides, of each image, logits (N, classes) and last features (N, D).
        """
        self._collector.start(groups)
        features, logits = self._network(images)
        statistics = {
            f"features{index}": each.float().view(groups, len(images) // groups, -1).mean(1)
            for index, each in enumerate(features)
        }
        for index, layer in enumerate(self._collector.take()):
            statistics |= {f"mean{index}": layer.mean, f"var{index}": layer.var}
        return statistics, logits, features[0]


Named = list[tuple[dict[str, Any], StatisticsNetwork]]  # each behind what names its statistics in fingerprints


def teachers(inputs: Inputs, device_config: DeviceConfig, depth: int, batchnorm: bool) -> Named:
    """The teachers of the pool as networks whose statistics are measured."""
    names = [{"teacher": each.identity, "depth": depth, "batchnorm": batchnorm} for each in inputs.pool.members]
    facts: dict[str, dict[str, Any]] = {
        member.identity: {"number": -index, "trained": not training.few_shot}
        for index, training in enumerate(inputs.pool.trajectories)
        for member in training.members
    }
    loaded = zip(inputs.pool.members, inputs.pool.load_teachers(device_config), strict=True)
    made = [StatisticsNetwork(one, depth, batchnorm, **facts.get(each.identity, {})) for each, one in loaded]
    return list(zip(names, made, strict=True))


def untrained_network(
    inputs: Inputs,
    device_config: DeviceConfig,
    name: str,
    *keys: seeding.Key,
    depth: int = 1,
    batchnorm: bool = False,
    number: int = 0,
) -> StatisticsNetwork:
    """A random network, whose BatchNorm layers, if it has any, have the statistics of random real images."""

    def batches() -> Iterator[torch.Tensor]:  # drawn and read only if there is BatchNorm
        order = seeding.permutation(len(inputs.train.labels), "BatchNorm statistics", *keys)
        yield inputs.spec.normalise(inputs.train.take(torch.from_numpy(order[:BATCHNORM_IMAGES])))

    network = random_network(name, inputs.spec, *keys).to(device_config.device)
    with device_config.autocast():
        update_bn(batches(), network, device_config.device)
    return StatisticsNetwork(network.eval().requires_grad_(False), depth, batchnorm, number=number, trained=False)


def untrained_networks(
    inputs: Inputs, device_config: DeviceConfig, name: str, count: int, depth: int = 1, batchnorm: bool = False
) -> Named:
    """The first ``count`` random networks of an architecture."""
    options: dict[str, Any] = {"depth": depth, "batchnorm": batchnorm}
    return [
        (
            {"network": name, "index": index, **options},
            untrained_network(inputs, device_config, name, index, number=index + 1, **options),
        )
        for index in range(count)
    ]


@dataclass(frozen=True)
class RealClasses:
    """The real side of class matching: which images of each class are measured, and under which augmentation."""

    inputs: Inputs
    device_config: DeviceConfig
    strategy: str  # of DSA
    count: int  # images of each class that are measured, at most

    def banks(self, networks: Named, augmentations: int) -> list[Statistics]:
        """The statistics of each network under some draws of DSA, (augmentations, classes, ·), on the run's device.

        They are measured on the same images for all draws of a network, unless they are in the store. Draws and images are those
        of the network's number.
        """
        with StageProgress("class statistics", len(networks) * self.inputs.spec.num_classes, "classes") as progress:
            contents = [self._content(network, identity, augmentations) for identity, network in networks]
            banks: dict[int, Statistics] = {}
            for index in self.inputs.unclaimed_first("bank", contents):
                banks[index] = self._bank(networks[index][1], contents[index], augmentations, progress)
            return [banks[index] for index in range(len(networks))]

    def _content(self, network: StatisticsNetwork, identity: dict[str, Any], augmentations: int) -> dict[str, Any]:
        """What a bank depends on, for its fingerprint."""
        return {
            "version": BANK_VERSION,
            **identity,
            "strategy": self.strategy,
            "augmentations": augmentations,
            **({"number": network.number} if network.number else {}),
            "real_images": self.count,
            **self.device_config.fingerprint,
        }

    def _bank(
        self, network: StatisticsNetwork, content: dict[str, Any], augmentations: int, progress: StageProgress
    ) -> Statistics:
        def build(folder: Path) -> dict[str, Any]:
            train, classes = self.inputs.train, range(self.inputs.spec.num_classes)
            rows, own = [], [network.number] if network.number else []
            draws = range(network.number * augmentations, (network.number + 1) * augmentations)
            for label in classes:
                images = self.images(shuffled_class(train, label, 0, "bank", *own)[: self.count])
                rows.append(_stack([self._statistics(network, images, draw) for draw in draws]))
                progress.advance()
            bank = {name: each.squeeze(2).transpose(0, 1).contiguous().cpu() for name, each in _stack(rows).items()}
            if is_leader():
                save_tensors(folder / BANK, bank)
            return {}

        before = progress.done
        artifact = self.inputs.artifact("bank", content, build)
        progress.skip(self.inputs.spec.num_classes - (progress.done - before))
        bank = load_tensors(artifact.file(BANK))[0]
        return {name: tensor.to(self.device_config.device) for name, tensor in bank.items()}

    def live(self, network: StatisticsNetwork, seed: int, iteration: int) -> Statistics:
        """The statistics of the live batches, (classes, ·), under draw ``iteration`` of DSA."""
        labels = range(self.inputs.spec.num_classes)
        rows = [self._statistics(network, self.live_batch(label, seed, iteration), iteration) for label in labels]
        return {name: each.squeeze(1) for name, each in _stack(rows).items()}

    def live_batch(self, label: int, seed: int, iteration: int) -> torch.Tensor:
        """A batch of random images of a class, drawn anew in each iteration."""
        return self.images(shuffled_class(self.inputs.train, label, seed, "live batch", iteration)[: self.count])

    @torch.no_grad()
    def batch(
        self, network: StatisticsNetwork, count: int, seed: int, iteration: int, draw: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Last features (n, D) and labels (n,) of random real images of all classes, drawn anew in each iteration."""
        train = self.inputs.train
        chosen = torch.from_numpy(seeding.permutation(len(train), seed, "real batch", iteration)[:count])
        with self.device_config.autocast():
            features = network(self.augmented(self.images(chosen), draw))[2]
        return features, train.labels[chosen].to(features.device)

    def augmented(self, images: torch.Tensor, draw: int) -> torch.Tensor:
        """Normalised images (N, C, H, W) under a draw of DSA, which has one strength for all."""
        with torch.autocast(images.device.type, enabled=False):
            return dsa(images, "class means", draw, strategy=self.strategy, siamese=True)

    def images(self, indices: torch.Tensor) -> torch.Tensor:
        return self.inputs.spec.normalise(self.inputs.train.take(indices)).to(self.device_config.device)

    @torch.no_grad()
    def _statistics(self, network: StatisticsNetwork, images: torch.Tensor, draw: int) -> Statistics:
        with self.device_config.autocast():
            return network(self.augmented(images, draw))[0]


def _stack(rows: list[Statistics]) -> Statistics:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
