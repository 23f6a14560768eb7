"""Each objective against an obvious version of it, and the rank correlation against torchmetrics'."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics.functional import spearman_corrcoef

from teddy.data.images import TensorImages
from teddy.data.spec import DatasetSpec
from teddy.models.networks import build_network
from teddy.theory.dcs import Objectives, interval, rank_correlation

CLASSES = 3
SPEC = DatasetSpec("tiny", CLASSES, 1, 8, (0.5,), (0.25,), ("a", "b", "c"), ("a", "b", "c"))


def images(seed: int, per_class: int) -> TensorImages:
    count = per_class * CLASSES
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return TensorImages(pixels, torch.arange(count) % CLASSES)


@pytest.fixture
def network() -> nn.Module:
    network = build_network("convnet2_w4", CLASSES, 1, 8, seed=1)
    with torch.no_grad():
        network(SPEC.normalise(images(9, 20).images))  # running statistics that are neither 0 nor 1
    return network.eval().requires_grad_(False)


def norm_inputs(network: nn.Module, some: torch.Tensor) -> list[torch.Tensor]:
    """The inputs of the BatchNorm layers, channels first (C, N H W)."""
    found, hidden = [], some
    for layer in network.features:
        if isinstance(layer, nn.BatchNorm2d):
            found.append(hidden.transpose(0, 1).flatten(1))
        hidden = layer(hidden)
    return found


def split(some: TensorImages) -> list[torch.Tensor]:
    normalised = SPEC.normalise(some.images)
    return [normalised[some.labels == label] for label in range(CLASSES)]


def slow(network: nn.Module, own: TensorImages, real: TensorImages) -> dict[str, float]:
    """The objectives image set by image set, in the order of their table."""
    layers = [layer for layer in network.features if isinstance(layer, nn.BatchNorm2d)]

    def batchnorm(one: torch.Tensor, other: torch.Tensor) -> float:
        pairs = zip(norm_inputs(network, one), norm_inputs(network, other), strict=True)
        return sum(float((a.mean(1) - b.mean(1)).norm() + (a.var(1, False) - b.var(1, False)).norm()) for a, b in pairs)

    everything, all_real = SPEC.normalise(own.images), SPEC.normalise(real.images)
    running = sum(
        float((a.mean(1) - layer.running_mean).norm() + (a.var(1, False) - layer.running_var).norm())
        for a, layer in zip(norm_inputs(network, everything), layers, strict=True)
    )
    by_class = list(zip(split(own), split(real), strict=True))

    def features(some: torch.Tensor, stop: int) -> torch.Tensor:
        return network.features[:stop](some).flatten(1).mean(0)

    def squared(stop: int) -> float:
        return sum(float((features(a, stop) - features(b, stop)).square().sum()) for a, b in by_class) / CLASSES

    def gradient(some: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        copy = deepcopy(network).requires_grad_(True)
        F.cross_entropy(copy(some), labels).backward()
        return torch.cat([weight.grad.flatten() for weight in copy.parameters()])

    pairs = [[gradient(some, torch.full((len(some),), label)) for some in both] for label, both in enumerate(by_class)]
    whole = gradient(everything, own.labels), gradient(all_real, real.labels)
    return {
        "bn": running,
        "bn_measured": batchnorm(everything, all_real),
        "bn_class": sum(batchnorm(a, b) for a, b in by_class) / CLASSES,
        "mean_class": squared(8),
        "mean_class_3": squared(8) + squared(4) + squared(0),
        "gradient_cosine": 1 - sum(float(F.cosine_similarity(a, b, dim=0)) for a, b in pairs) / CLASSES,
        "gradient_l2": sum(float((a - b).square().sum()) for a, b in pairs) / CLASSES,
        "gradient_all": 1 - float(F.cosine_similarity(*whole, dim=0)),
        "cross_entropy": float(F.cross_entropy(network(everything), own.labels)),
    }


def test_objectives_are_those_of_the_obvious_way(network: nn.Module) -> None:
    own, real = images(0, 4), images(1, 30)
    assert Objectives(network, SPEC, real)(own) == pytest.approx(slow(network, own, real), rel=1e-4)


def test_real_images_are_at_no_distance_from_themselves(network: nn.Module) -> None:
    real = images(1, 10)
    found = Objectives(network, SPEC, real)(real)
    assert all(found.pop(name) > 0.01 for name in ("bn", "cross_entropy"))
    assert found == pytest.approx(dict.fromkeys(found, 0.0), abs=1e-5)


def test_the_rank_correlation_is_spearmans() -> None:
    draws = torch.randn(2, 15, generator=torch.Generator().manual_seed(0))
    assert rank_correlation(*draws.tolist()) == pytest.approx(float(spearman_corrcoef(*draws)), abs=1e-6)
    assert rank_correlation([1, 2, 2, 3], [1, 2, 2, 9]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)


def test_the_interval_covers_the_true_correlation_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    # Spearman's ρ of a bivariate normal with correlation r is 6/π asin(r/2).
    truth, inside, trials, size = 6 / torch.pi * torch.asin(torch.tensor(0.6 / 2)), 0, 60, 40
    for _ in range(trials):
        first, second = torch.randn(2, size, generator=generator)
        low, high = interval(first.tolist(), (0.6 * first + 0.8 * second).tolist(), draws=200)
        inside += low <= truth <= high
    assert 0.8 <= inside / trials <= 0.98


def test_an_interval_is_wider_where_there_are_fewer_sets() -> None:
    first, second = torch.randn(2, 60, generator=torch.Generator().manual_seed(1))
    some = [interval(first[:size].tolist(), (first + second)[:size].tolist(), draws=200) for size in (8, 60)]
    assert some[0][1] - some[0][0] > 1.5 * (some[1][1] - some[1][0])
