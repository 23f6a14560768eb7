"""The readout against ridge regression on the weights, by least squares in float64, and finite differences."""

from __future__ import annotations

import pytest
import torch

from teddy.methods.readout import RIDGE, readout, readout_error


def least_squares(features: torch.Tensor, labels: torch.Tensor, real: torch.Tensor, classes: int) -> torch.Tensor:
    """Predictions by the weights W of min ||F W - Y||^2 + r ||W||^2, whose second part is more rows of the first."""
    own = features.double()
    decay = (RIDGE * own.square().sum(1).mean()).sqrt()
    rows = torch.cat([own, decay * torch.eye(own.shape[1], dtype=torch.float64)])
    wanted = torch.zeros(len(rows), classes, dtype=torch.float64)
    for index, label in enumerate(labels.tolist()):
        wanted[index] = -1 / classes
        wanted[index, label] += 1
    return real.double() @ torch.linalg.lstsq(rows, wanted).solution


@pytest.mark.parametrize("images", [6, 40])
def test_the_predictions_are_those_of_ridge_regression(images):
    """With fewer images than features, and with more."""
    draws = torch.Generator().manual_seed(images)
    features, real = torch.randn(images, 16, generator=draws), torch.randn(9, 16, generator=draws)
    labels = torch.arange(images) % 3
    predicted = readout(features, labels, real, 3)
    assert torch.allclose(predicted.double(), least_squares(features, labels, real, 3), atol=1e-4)
    truth = torch.tensor([0, 1, 2] * 3)
    wanted = torch.eye(3)[truth] - 1 / 3
    expected = sum(float((row - own).square().sum()) for row, own in zip(predicted, wanted, strict=True)) / 9
    assert readout_error(features, labels, real, truth, 3).item() == pytest.approx(expected, rel=1e-5)
    assert torch.allclose(readout(100 * features, labels, 100 * real, 3), predicted, atol=1e-4), "whatever their size"


def test_classes_that_their_features_tell_apart_are_read_out():
    features = torch.eye(3).repeat_interleave(2, 0)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    assert readout_error(features, labels, torch.eye(3), torch.arange(3), 3).item() < 1e-4
    assert readout_error(features, labels, torch.eye(3), torch.tensor([1, 2, 0]), 3).item() == pytest.approx(
        2, rel=0.02
    )


def test_the_gradient_agrees_with_finite_differences():
    draws = torch.Generator().manual_seed(0)
    features, real = torch.randn(6, 4, generator=draws), torch.randn(5, 4, generator=draws)
    labels, truth = torch.arange(6) % 3, torch.tensor([0, 1, 2, 0, 1])
    parameter = features.clone().requires_grad_()
    readout_error(parameter, labels, real, truth, 3).backward()
    for row, column in ((0, 0), (3, 2), (5, 3)):
        step = torch.zeros_like(features)
        step[row, column] = 1e-3
        wanted = torch.eye(3, dtype=torch.float64)[truth] - 1 / 3
        rise = sum(
            sign * float((least_squares(features + sign * step, labels, real, 3) - wanted).square().sum(1).mean())
            for sign in (1, -1)
        )
        assert parameter.grad is not None
        assert parameter.grad[row, column].item() == pytest.approx(rise / 2e-3, rel=1e-2, abs=1e-4)


def test_half_precision_around_it_changes_nothing():
    features, real = torch.randn(6, 16).bfloat16(), torch.randn(5, 16).bfloat16()
    labels, truth = torch.arange(6) % 3, torch.tensor([0, 1, 2, 0, 1])
    alone = readout_error(features, labels, real, truth, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert readout_error(features, labels, real, truth, 3).item() == alone.item()
