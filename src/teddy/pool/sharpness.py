"""GSAM (Zhuang et al., ICLR 2022), by which FTD (Du et al., CVPR 2023) trains experts whose trajectories are flat."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from teddy.config.types import Positive, Weight


@dataclass(frozen=True)
class Sharpness:
    """How sharpness counts in training."""

    rho: Positive  # distance to the nearby point of higher loss
    alpha: Weight  # weight of the surrogate gap; 0: SAM (Foret et al., ICLR 2021)


class GSAM(torch.optim.SGD):
    """SGD in the direction ``h - alpha * (g - (g.h / h.h) h)``.

    g is the gradient at the weights w, h the one at ``w + rho * g / ||g||``. A step needs a closure and calls it at both points,
    so that statistics of BatchNorm layers see both.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], sharpness: Sharpness, **options: Any) -> None:
        super().__init__(parameters, **options)
        self.sharpness = sharpness

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Update the weights; returns the closure's value at the weights as they were."""
        closure = torch.enable_grad()(closure)
        rho, alpha = self.sharpness.rho, self.sharpness.alpha
        loss = closure()
        weights = [one for group in self.param_groups for one in group["params"] if one.grad is not None]
        before, here = [one.clone() for one in weights], [one.grad.clone() for one in weights]
        norm = _dot(here, here).sqrt().clamp(min=1e-12)
        for weight, slope in zip(weights, here, strict=True):
            weight.add_(rho / norm * slope)
        closure()
        there = [one.grad for one in weights]
        share = _dot(here, there) / _dot(there, there).clamp(min=1e-24)
        for weight, old, first, second in zip(weights, before, here, there, strict=True):
            weight.copy_(old)
            weight.grad = second - alpha * (first - share * second)
        super().step()
        return loss


def _dot(one: list[torch.Tensor], other: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([(first * second).sum() for first, second in zip(one, other, strict=True)]).sum()
