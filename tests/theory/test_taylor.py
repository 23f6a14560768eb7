"""The unrolled objective against SGD done by torch, and its approximation against the order that Taylor's theorem gives it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from teddy.data.sources.embedded import FashionMini
from teddy.models.stateless import StatelessNetwork
from teddy.theory.taylor import Batch, training, unrolled

STEPS = 5
RATES = np.geomspace(1e-3, 1e-2, 4)


@pytest.fixture(scope="module")
def sets() -> tuple[Batch, Batch]:
    """Twenty synthetic and two hundred other real images, in float64."""
    train = FashionMini().load().train
    images, labels = F.avg_pool2d(train.images.double() / 255, 4), train.labels
    return (images[:20].requires_grad_(), labels[:20]), (images[20:220], labels[20:220])


@pytest.fixture(scope="module")
def network() -> StatelessNetwork:
    return StatelessNetwork(smooth())


def smooth() -> nn.Module:
    """A network without ReLU: at a kink there is no Taylor expansion."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(49, 16), nn.Tanh(), nn.Linear(16, 10))


def start(network: StatelessNetwork) -> torch.Tensor:
    return network.initial.double()


def approximation(network: StatelessNetwork, synthetic: Batch, real: Batch, lr: float) -> torch.Tensor:
    steps = list(itertools.islice(training(network, start(network), synthetic, real, lr), STEPS))
    return steps[0].real - lr * sum(step.product for step in steps)


def order(rates: np.ndarray, errors: list[float]) -> float:
    """The slope on a log-log plot."""
    return float(np.polyfit(np.log(rates), np.log(errors), 1)[0])


def test_the_unrolled_objective_is_the_loss_after_sgd(network: StatelessNetwork, sets: tuple[Batch, Batch]) -> None:
    (images, labels), real = sets
    found = unrolled(network, start(network), (images, labels), real, lr=0.1, steps=STEPS)
    trained = smooth().double()
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(trained(images.detach()), labels).backward()
        optimizer.step()
    with torch.no_grad():
        assert float(found.detach()) == pytest.approx(float(F.cross_entropy(trained(real[0]), real[1])), rel=1e-12)


def test_its_gradient_is_that_of_differences(network: StatelessNetwork, sets: tuple[Batch, Batch]) -> None:
    (images, labels), real = sets

    def value(pixels: torch.Tensor) -> torch.Tensor:
        return unrolled(network, start(network), (pixels, labels), real, lr=0.5, steps=STEPS)

    (slope,) = torch.autograd.grad(value(images), images)
    towards = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ahead, behind = (float(value((images + step * towards).detach()).detach()) for step in (1e-5, -1e-5))
    assert float((slope * towards).sum()) == pytest.approx((ahead - behind) / 2e-5, rel=1e-6)


def test_the_training_is_the_same(network: StatelessNetwork, sets: tuple[Batch, Batch]) -> None:
    synthetic, real = sets
    *_, last = itertools.islice(training(network, start(network), synthetic, real, lr=0.1), STEPS + 1)
    exact = float(unrolled(network, start(network), synthetic, real, lr=0.1, steps=STEPS).detach())
    assert last.real == pytest.approx(exact, rel=1e-12)
    assert float(F.cross_entropy(network(last.weights, real[0]), real[1])) == pytest.approx(exact, rel=1e-12)


def test_the_remainder_of_eq_3_is_of_second_order(network: StatelessNetwork, sets: tuple[Batch, Batch]) -> None:
    errors = []
    for lr in RATES:
        exact = unrolled(network, start(network), *sets, lr=lr, steps=STEPS)
        errors.append(abs(float(exact.detach() - approximation(network, *sets, lr=lr).detach())))
    assert order(RATES, errors) == pytest.approx(2, abs=0.1)


def test_the_gradients_of_both_objectives_differ_in_second_order(
    network: StatelessNetwork, sets: tuple[Batch, Batch]
) -> None:
    synthetic, real = sets
    errors = []
    for lr in RATES:
        exact = unrolled(network, start(network), synthetic, real, lr=lr, steps=STEPS)
        values = exact, approximation(network, synthetic, real, lr=lr)
        one, other = (torch.autograd.grad(value, synthetic[0])[0] for value in values)
        errors.append(float((one - other).norm()))
    assert order(RATES, errors) == pytest.approx(2, abs=0.1)


def test_cosine_is_squared_distance_of_unit_gradients(network: StatelessNetwork, sets: tuple[Batch, Batch]) -> None:
    """Eq. 12: -e_T · e_S = ½ ‖e_T - e_S‖² - 1."""
    step = next(training(network, start(network), *sets, lr=0.1))
    one, other = (network.gradient(step.weights, *batch)[0] for batch in sets)
    assert float(step.product.detach()) == pytest.approx(float(one @ other), rel=1e-12)
    distance = float((one / one.norm() - other / other.norm()).square().sum())
    assert -step.cosine == pytest.approx(0.5 * distance - 1, abs=1e-14)


def test_eq_11_prefers_another_set_than_eq_10() -> None:
    """The lengths of gradients depend on S, so the largest product need not have the largest cosine."""
    real = torch.tensor([1.0, 0.0])
    short, long = torch.tensor([1.0, 0.0]), torch.tensor([3.0, 4.0])
    assert real @ long > real @ short
    assert F.cosine_similarity(real, long, dim=0) < F.cosine_similarity(real, short, dim=0)
