"""What the value of an objective predicts: its rank correlation with the test loss of students, over sets of one size.

An objective that ranks the sets as their students do is worth minimising (Distillation Correlation Score, DCS).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import pandas as pd  # type: ignore[import-untyped]
import torch
from torch import nn
from torch.nn import functional as F

from teddy.data.images import TensorImages
from teddy.data.spec import DatasetSpec
from teddy.methods.class_statistics import Statistics, StatisticsNetwork
from teddy.runtime import seeding


class Objectives:
    """The value of each matching objective for sets of images, under one frozen network; lower is better.

    ======================  ===============================================================================================
    ``bn``                  Eq. 7's BatchNorm term: mean and variance of all images, against the running statistics
    ``bn_measured``         the same against statistics of the given real images
    ``bn_class``            its class-wise form (Table 3): mean over classes
    ``mean_class``          squared distance of the class means of the last features (Prop. 2), mean over classes
    ``mean_class_3``        the same, summed over the inputs of the last three layers with weights
    ``gradient_cosine``     1 - cosine of the gradients of all weights (Eq. 11), mean over classes
    ``gradient_l2``         squared distance of these gradients, mean over classes
    ``gradient_all``        1 - cosine of the gradients of all classes together, as Eq. 11 and 13 have it
    ``cross_entropy``       Eq. 7's other term, l(S; θ)
    ======================  ===============================================================================================

    The network, in eval mode, has three layers with weights or more; ``real`` has the same number of images of each class.
    """

    def __init__(self, network: nn.Module, spec: DatasetSpec, real: TensorImages) -> None:
        layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
        self._running = {
            f"{kind}{index}": layer.get_buffer(f"running_{kind}")
            for index, layer in enumerate(layers)
            for kind in ("mean", "var")
        }
        self._spec, self._network = spec, deepcopy(network).requires_grad_(True)
        self._measured = StatisticsNetwork(deepcopy(network).requires_grad_(False), depth=3, batchnorm=True)
        self._real = self._measure(real)

    def __call__(self, images: TensorImages) -> dict[str, float]:
        """The objectives of a set that has the same number of images of each class."""
        (whole, classes, slopes, loss), (real, real_classes, real_slopes, _) = self._measure(images), self._real
        features = [
            (classes[f"features{index}"] - real_classes[f"features{index}"]).square().sum(1) for index in range(3)
        ]
        values = {
            "bn": sum((whole[name] - each).norm() for name, each in self._running.items()),
            "bn_measured": sum((whole[name] - real[name]).norm() for name in self._running),
            "bn_class": sum((classes[name] - real_classes[name]).norm(dim=1).mean() for name in self._running),
            "mean_class": features[0].mean(),
            "mean_class_3": sum(each.mean() for each in features),
            "gradient_cosine": 1 - F.cosine_similarity(slopes, real_slopes).mean(),
            "gradient_l2": (slopes - real_slopes).square().sum(1).mean(),
            "gradient_all": 1 - F.cosine_similarity(slopes.mean(0), real_slopes.mean(0), dim=0),
            "cross_entropy": loss,
        }
        return {name: float(value) for name, value in values.items()}

    def _measure(self, images: TensorImages) -> tuple[Statistics, Statistics, torch.Tensor, float]:
        """Statistics of all images and of each class, gradients by class (classes, weights), and the loss."""
        order = images.labels.argsort(stable=True)
        normalised, labels = self._spec.normalise(images.take(order)), images.labels[order]
        with torch.no_grad():
            whole = {name: each[0] for name, each in self._measured(normalised)[0].items()}
            classes, logits, _ = self._measured(normalised, self._spec.num_classes)
        slopes = []
        for some, label in zip(normalised.chunk(len(labels.unique())), labels.unique(), strict=True):
            loss = F.cross_entropy(self._network(some), label.expand(len(some)))
            grads = torch.autograd.grad(loss, list(self._network.parameters()))
            slopes.append(torch.cat([each.flatten() for each in grads]))
        return whole, classes, torch.stack(slopes), float(F.cross_entropy(logits, labels))


def rank_correlation(values: Sequence[float], losses: Sequence[float]) -> float:
    """Spearman's ρ: the correlation of the ranks, ties by their mean; NaN if either has one value only."""
    return float(pd.Series(values).rank().corr(pd.Series(losses).rank()))


def interval(values: Sequence[float], losses: Sequence[float], draws: int = 1000) -> tuple[float, float]:
    """The 90 % interval of a rank correlation over sets, by the bootstrap: the same sets may come twice, or not at all."""
    chosen = torch.randint(len(values), (draws, len(values)), generator=seeding.generator("bootstrap")).T
    first, second = (
        pd.DataFrame(torch.tensor(each, dtype=torch.float64)[chosen].numpy()).rank() for each in (values, losses)
    )
    found = first.corrwith(second)
    return float(found.quantile(0.05)), float(found.quantile(0.95))
