"""Eq. 14-18 against autograd, loops and numpy, and where they do not hold as printed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from teddy.theory.linear_head import Gap, Moments

D, CLASSES = 7, 4


def draw(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features, not centred, and one-hot labels of balanced classes, float64."""
    generator = torch.Generator().manual_seed(seed)
    features = 0.3 + torch.randn(count, D, generator=generator, dtype=torch.float64)
    return features, F.one_hot(torch.arange(count) % CLASSES, CLASSES).double()


def head(seed: int) -> torch.Tensor:
    return torch.randn(D, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_gradient_is_autograds() -> None:
    features, targets = draw(0, 20)
    weight = head(1).requires_grad_()
    (0.5 * (features @ weight - targets).square().sum() / len(features)).backward()
    torch.testing.assert_close(Moments.of(features, targets).gradient(weight.detach()), weight.grad, rtol=1e-12, atol=0)


def test_the_second_term_is_the_class_means_by_share() -> None:
    features, targets = draw(0, 22)
    found = Moments.of(features, targets)
    for label in range(CLASSES):
        members = features[targets[:, label] == 1]
        torch.testing.assert_close(found.crossed[:, label], members.mean(0) * len(members) / len(features))


def test_the_first_term_is_a_covariance_for_centred_features_only() -> None:
    """Eq. 16 sets it equal to the covariance; features that do not vary have none, and the term does not vanish."""
    features, targets = draw(0, 20)
    found = Moments.of(features, targets)
    np.testing.assert_allclose(found.covariance, np.cov(features.numpy().T, bias=True))
    constant = Moments.of(torch.ones_like(features), targets)
    assert constant.covariance.norm() == pytest.approx(0)
    assert constant.second.norm() == pytest.approx(D)


def test_twice_the_right_side_of_eq_15_bounds_the_left() -> None:
    for seed in range(50):
        gap = Gap(Moments.of(*draw(seed, 40)), Moments.of(*draw(100 + seed, 8)))
        weight = head(seed)
        gradients = gap.real.gradient(weight), gap.synthetic.gradient(weight)
        left = float((gradients[0] - gradients[1]).square().sum() / weight.square().sum())
        assert gap.distance(weight) == pytest.approx(left)
        assert left <= 2 * gap.bound(weight)


def test_the_right_side_itself_does_not() -> None:
    """One feature, one class: (a W - b)² = 4 for a W = -b = 1, and 1 + 1 on the right."""
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    gap = Gap(Moments.of(one, -one), Moments.of(zero, zero))
    assert gap.distance(one) == 4
    assert gap.bound(one) == 2


def test_features_that_differ_in_scale_alone_lose_nothing_off_the_diagonal() -> None:
    targets = torch.eye(3, dtype=torch.float64)
    gap = Gap(Moments.of(2 * targets, targets), Moments.of(targets, targets))
    assert gap.off_diagonal() == pytest.approx(0)


def test_the_same_variances_with_other_correlations_are_all_off_the_diagonal() -> None:
    """Variance matching is no bound of covariance matching: its distance is 0 here."""
    together = torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    targets = torch.eye(2, dtype=torch.float64)
    gap = Gap(Moments.of(together, targets), Moments.of(together * torch.tensor([1.0, -1.0]), targets))
    assert gap.off_diagonal() == gap.off_diagonal(centred=True) == 1


def test_the_global_mean_does_not_see_swapped_classes() -> None:
    """Balanced classes, as Prop. 2 asks for, and yet no sign of the worst labels that there can be."""
    features, targets = draw(0, 20)
    gap = Gap(Moments.of(features, targets), Moments.of(features, targets.roll(1, 1)))
    torch.testing.assert_close(gap.real.mean, gap.synthetic.mean)
    assert float(gap.crossed.norm()) > 0.1
    assert gap.between_classes() == pytest.approx(1)


def test_it_sees_all_of_a_shift() -> None:
    features, targets = draw(0, 20)
    assert Gap(Moments.of(features + 1, targets), Moments.of(features, targets)).between_classes() == pytest.approx(0)
