"""Coresets by geometry: real images that stand for their class in the space of the pool's last features.

The features are those of the pool's last member for the images as they are; distances are Euclidean, in float64 on the CPU.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from teddy.data.batches import class_batches
from teddy.models.features import FeatureNetwork
from teddy.pool.strategy import PoolStrategy
from teddy.pool.trajectory import BaseTraining
from teddy.runtime import seeding
from teddy.runtime.progress import StageProgress
from teddy.synthesis.init import class_members, first_of
from teddy.synthesis.method import Inputs, Method, Needs, Run, SyntheticSet, untrained_teacher

_LLOYD_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class Geometric(Method):
    """IPC real images of each class, chosen by their features; a class with fewer images starts over."""

    def needs(self) -> Needs:
        return Needs(pool=True, data=True)

    def check_run(self, strategy: PoolStrategy, base: BaseTraining) -> None:
        FeatureNetwork(untrained_teacher(strategy, base))

    @abstractmethod
    def choose(self, features: torch.Tensor, count: int, uniforms: np.ndarray) -> list[int]:
        """Choose ``count`` different rows of a class's features, float64 (n, D), perhaps by ``uniforms`` in [0, 1), (count,)."""

    @torch.no_grad()
    def synthesize(self, inputs: Inputs, run: Run) -> SyntheticSet:
        train, spec, config = inputs.train, inputs.spec, run.device_config
        (teacher,) = inputs.pool.load_teachers(config, [len(inputs.pool) - 1])
        network, chosen = FeatureNetwork(teacher), []
        classes = [class_members(train, label) for label in range(spec.num_classes)]
        with StageProgress("selection", len(classes), "classes") as progress:
            for label, batches in class_batches(train, classes, config.workers):
                with config.autocast():
                    parts = [network(spec.normalise(images.to(config.device)))[0][0].cpu() for images, *_ in batches]
                count = min(self.ipc, len(classes[label]))
                uniforms = seeding.uniform(run.seed, "selection", label, draws=count)[0]
                rows = self.choose(torch.cat(parts).double(), count, uniforms)
                chosen.append(first_of(classes[label][rows], self.ipc))
                progress.advance()
        images = torch.cat(chosen)
        return SyntheticSet(train.take(images), train.labels[images])


@dataclass(frozen=True, kw_only=True)
class Herding(Geometric):
    """Images one after the other, each that brings the mean of the chosen features closest to the mean of the class."""

    citation: ClassVar[str] = "Welling, Herding Dynamical Weights to Learn, ICML 2009"

    def choose(self, features: torch.Tensor, count: int, uniforms: np.ndarray) -> list[int]:
        mean, total, rows = features.mean(0), torch.zeros_like(features[0]), list[int]()
        for size in range(1, count + 1):
            distances = ((total + features) / size - mean).norm(dim=1)
            distances[rows] = torch.inf
            rows.append(int(distances.argmin()))
            total = total + features[rows[-1]]
        return rows


@dataclass(frozen=True, kw_only=True)
class KCentre(Geometric):
    """Farthest-first traversal: from the image nearest to the mean of the class, always the one farthest from those chosen."""

    citation: ClassVar[str] = (
        "Sener & Savarese, Active Learning for Convolutional Neural Networks: A Core-Set Approach, ICLR 2018"
    )

    def choose(self, features: torch.Tensor, count: int, uniforms: np.ndarray) -> list[int]:
        rows = [int((features - features.mean(0)).norm(dim=1).argmin())]
        distances = torch.full((len(features),), torch.inf, dtype=features.dtype)
        while len(rows) < count:
            distances = distances.minimum((features - features[rows[-1]]).norm(dim=1))
            distances[rows] = -1  # below that of another image with the same features
            rows.append(int(distances.argmax()))
        return rows


@dataclass(frozen=True, kw_only=True)
class KMeans(Geometric):
    """The image nearest to each of IPC k-means centres of the class, another one for each centre."""

    citation: ClassVar[str] = "Arthur & Vassilvitskii, k-means++: The Advantages of Careful Seeding, SODA 2007"

    def choose(self, features: torch.Tensor, count: int, uniforms: np.ndarray) -> list[int]:
        rows: list[int] = []
        for distances in torch.cdist(k_means(features, uniforms), features):
            distances[rows] = torch.inf
            rows.append(int(distances.argmin()))
        return rows


def k_means(features: torch.Tensor, uniforms: np.ndarray) -> torch.Tensor:
    """Centres of Lloyd's algorithm from the start of k-means++, one for each random number: (n, D) to (k, D).

    It ends when no feature changes its centre, at the latest after 100 steps. A centre without features stays where it is.
    """
    squares = torch.ones(len(features), dtype=features.dtype)  # the first centre is any
    starts = []
    for uniform in uniforms:
        shares = squares.cumsum(0)
        drawn = int(torch.searchsorted(shares, shares[-1] * uniform, right=True))
        starts.append(min(drawn, len(features) - 1))  # all features are centres already, or a rounding error
        distances = (features - features[starts[-1]]).square().sum(1)
        squares = distances if len(starts) == 1 else squares.minimum(distances)
    centres, nearest = features[starts], None
    for _ in range(_LLOYD_STEPS):
        before, nearest = nearest, torch.cdist(features, centres).argmin(1)
        if before is not None and torch.equal(before, nearest):
            break
        sizes = nearest.bincount(minlength=len(centres))[:, None]
        sums = torch.zeros_like(centres).index_add(0, nearest, features)
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
    return centres
