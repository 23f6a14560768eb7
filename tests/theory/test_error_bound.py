"""Eq. 22 on random data, for a linear model and one step from shared weights: three of its lines hold, the last one does not.

The norms are those of Frobenius, f(X; W) = XW, and C = ‖f(X; W_T) - Y‖.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

Batch = tuple[torch.Tensor, torch.Tensor]


class Bound(NamedTuple):
    """The lines of Eq. 22. ``lipschitz`` equals the fourth but for the printed equation's learning rate."""

    loss: float  # ‖f(X; W_S) - Y‖
    triangle: float  # ‖f(X; W_S) - f(X; W_T)‖ + C
    lipschitz: float  # β ‖W_S - W_T‖ + C
    printed: float  # lr β g_S · g_T + C, which the paper sets equal


def bound(real: Batch, synthetic: Batch, weight: torch.Tensor, lr: float) -> Bound:
    """One step of gradient descent on ½ ‖XW - Y‖² / N from ``weight`` on either set."""
    theirs, ours = (x.T @ (x @ weight - y) / len(x) for x, y in (real, synthetic))
    (inputs, targets), trained = real, weight - lr * ours
    apart = trained - (weight - lr * theirs)
    beta, rest = torch.linalg.matrix_norm(inputs, 2), (inputs @ (trained - apart) - targets).norm()
    above = (inputs @ apart).norm(), beta * apart.norm(), lr * beta * (ours * theirs).sum()
    return Bound(float((inputs @ trained - targets).norm()), *(float(line + rest) for line in above))


def draw(seed: int, rows: int, columns: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bounds() -> list[Bound]:
    found = []
    for seed in range(50):
        real, synthetic = (draw(seed, 30, 5), draw(seed + 100, 30, 3)), (draw(seed + 200, 6, 5), draw(seed + 300, 6, 3))
        found.append(bound(real, synthetic, draw(seed + 400, 5, 3), lr=0.1))
    return found


def test_the_triangle_and_the_lipschitz_constant_bound_the_loss() -> None:
    for one in bounds():
        assert one.loss <= one.triangle <= one.lipschitz


def test_the_product_of_gradients_does_not() -> None:
    assert any(one.printed < one.loss for one in bounds())
    assert any(one.printed > one.lipschitz for one in bounds())


def test_opposite_gradients_make_the_loss_worse_and_the_printed_bound_smaller() -> None:
    """One number, x = 1, y = 1, W = 0: the real gradient is -1, that of y = -1 is 1."""
    one = torch.ones(1, 1)
    bad = bound((one, one), (one, -one), torch.zeros(1, 1), lr=0.5)
    assert bad.loss == bad.triangle == bad.lipschitz == pytest.approx(1.5)
    assert bad.printed == pytest.approx(0)
    good = bound((one, one), (one, one), torch.zeros(1, 1), lr=0.5)
    assert good.loss == pytest.approx(0.5)
    assert good.printed > bad.printed
