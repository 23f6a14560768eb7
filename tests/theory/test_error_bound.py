"""Eq. 22 on random data: three of its lines hold, the last one does not."""

from __future__ import annotations

import pytest
import torch

from teddy.theory.error_bound import ErrorBound


def draw(seed: int, rows: int, columns: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bounds() -> list[ErrorBound]:
    found = []
    for seed in range(50):
        real, synthetic = (draw(seed, 30, 5), draw(seed + 100, 30, 3)), (draw(seed + 200, 6, 5), draw(seed + 300, 6, 3))
        found.append(ErrorBound.of(*real, synthetic, draw(seed + 400, 5, 3), lr=0.1))
    return found


def test_the_triangle_and_the_lipschitz_constant_bound_the_loss() -> None:
    for bound in bounds():
        assert bound.loss <= bound.triangle <= bound.lipschitz


def test_the_product_of_gradients_does_not() -> None:
    assert any(bound.printed < bound.loss for bound in bounds())
    assert any(bound.printed > bound.lipschitz for bound in bounds())


def test_opposite_gradients_make_the_loss_worse_and_the_printed_bound_smaller() -> None:
    """One number, x = 1, y = 1, W = 0: the real gradient is -1, that of y = -1 is 1."""
    one = torch.ones(1, 1)
    bad = ErrorBound.of(one, one, (one, -one), torch.zeros(1, 1), lr=0.5)
    assert bad.loss == bad.triangle == bad.lipschitz == pytest.approx(1.5)
    assert bad.printed == pytest.approx(0)
    good = ErrorBound.of(one, one, (one, one), torch.zeros(1, 1), lr=0.5)
    assert good.loss == pytest.approx(0.5)
    assert good.printed > bad.printed
