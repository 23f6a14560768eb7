"""CutMix and the Beta quantile against closed forms and slow versions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from teddy.labels.mixing import beta_quantile, cutmix

GRID = (np.arange(20000) + 0.5) / 20000


def test_beta_quantile_closed_forms() -> None:
    np.testing.assert_allclose(beta_quantile(GRID, 1.0), GRID, atol=1e-12)
    np.testing.assert_allclose(beta_quantile(GRID, 0.5), np.sin(np.pi * GRID / 2) ** 2, atol=1e-6)  # arcsine law
    x = beta_quantile(GRID, 2.0)
    np.testing.assert_allclose(3 * x**2 - 2 * x**3, GRID, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 4.0, 40.0])
def test_beta_quantile_moments(alpha: float) -> None:
    values = beta_quantile(GRID, alpha)
    assert values.min() >= 0
    assert values.max() <= 1
    assert (np.diff(values) >= 0).all()
    assert values.mean() == pytest.approx(0.5, abs=1e-9)
    assert values.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=1e-3)


@pytest.mark.parametrize("shape", [(8, 8), (7, 12)])
def test_cutmix_is_the_slow_version(shape: tuple[int, int]) -> None:
    height, width = shape
    own, other = torch.zeros(200, 1, *shape), torch.ones(200, 1, *shape)
    uniforms = np.random.default_rng(0).random((200, 3))
    uniforms[0], uniforms[1] = 0.0, (0.0, 0.999, 0.5)
    mixed, keep = cutmix(own, other, uniforms, 1.0)
    for view, share, (lam, v, h) in zip(mixed, keep, uniforms, strict=True):
        cut_height, cut_width = int(height * (1 - lam) ** 0.5), int(width * (1 - lam) ** 0.5)
        y, x = int(v * height), int(h * width)
        expected = torch.zeros(1, *shape)
        expected[
            :,
            max(y - cut_height // 2, 0) : y + cut_height // 2,
            max(x - cut_width // 2, 0) : x + cut_width // 2,
        ] = 1
        assert torch.equal(view, expected)
        assert share.item() == pytest.approx(1 - expected.mean().item(), abs=1e-6)
    assert keep.dtype == torch.float32
