"""GSAM against its update written out."""

from __future__ import annotations

import pytest
import torch

from teddy.pool.sharpness import GSAM, Sharpness

OPTIONS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}


def loss_of(weights: torch.Tensor) -> torch.Tensor:
    return (weights**4).sum() + (weights[0] * weights[1]).sin()


def slope(weights: torch.Tensor) -> torch.Tensor:
    weights = weights.clone().requires_grad_()
    return torch.autograd.grad(loss_of(weights), weights)[0]


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_a_step_is_the_papers_update(alpha):
    start = torch.tensor([0.7, -0.4, 0.9], dtype=torch.float64)
    parts = [torch.nn.Parameter(start[:2].clone()), torch.nn.Parameter(start[2:].clone())]  # one norm over all weights
    optimizer = GSAM(parts, Sharpness(rho=0.05, alpha=alpha), **OPTIONS)
    seen = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(torch.cat(list(parts)))
        loss.backward()
        seen.append(loss.item())
        return loss

    weights, velocity = start.clone(), torch.zeros(3, dtype=torch.float64)
    for _ in range(3):
        here = slope(weights)
        there = slope(weights + 0.05 * here / here.norm())
        across = here - (here @ there) / (there @ there) * there
        velocity = 0.9 * velocity + (there - alpha * across + 0.01 * weights)
        expected = loss_of(weights).item()
        weights = weights - 0.1 * velocity
        assert optimizer.step(closure).item() == seen[-2] == pytest.approx(expected)
        assert torch.allclose(torch.cat(list(parts)), weights, rtol=1e-12)
    assert len(seen) == 6
