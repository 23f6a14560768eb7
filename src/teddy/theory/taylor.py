"""The unrolled objective and its first-order Taylor approximation (Prop. 1; Eq. 1, 3, 10).

Weights θ are vectors (P,), as :class:`teddy.models.stateless.StatelessNetwork` takes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from teddy.models.stateless import StatelessNetwork

Batch = tuple[torch.Tensor, torch.Tensor]
"""Normalised images (N, C, H, W) and their labels (N,)."""


def loss(network: StatelessNetwork, weights: torch.Tensor, batch: Batch) -> torch.Tensor:
    """The mean cross-entropy l(·; θ) of a batch."""
    return F.cross_entropy(network(weights, batch[0]), batch[1])


def unrolled(
    network: StatelessNetwork, weights: torch.Tensor, synthetic: Batch, real: Batch, lr: float, steps: int
) -> torch.Tensor:
    """The objective of Eq. 1, l(T; θ^(T)) after SGD on S, with a graph back through every step to the images of S."""
    weights = weights.detach().requires_grad_()
    for _ in range(steps):
        (slope,) = torch.autograd.grad(loss(network, weights, synthetic), weights, create_graph=True)
        weights = weights - lr * slope
    return loss(network, weights, real)


@dataclass(frozen=True)
class Step:
    """One step of training on S.

    Attributes:
        weights: θ^(t), constants.
        real: l(T; θ^(t)).
        product: g_T^(t) · g_S^(t) of Eq. 3, with a graph back to the images of S through this step alone.
        cosine: of the two gradients (Eq. 11).
    """

    weights: torch.Tensor
    real: float
    product: torch.Tensor
    cosine: float


def training(
    network: StatelessNetwork, weights: torch.Tensor, synthetic: Batch, real: Batch, lr: float
) -> Iterator[Step]:
    """The steps t = 0, 1, … of the training of Eq. 1, without end.

    Eq. 3's approximation of l(T; θ^(T)) is the first step's ``real`` less ``lr`` times the sum of the first T products. As θ^(t)
    are constants, each product may be differentiated and let go, so the memory is that of one step. The gradients are still
    those of Eq. 1 to first order in ``lr``.
    """
    while True:
        weights = weights.detach().requires_grad_()
        real_loss = loss(network, weights, real)
        (real_slope,) = torch.autograd.grad(real_loss, weights)
        (own_slope,) = torch.autograd.grad(loss(network, weights, synthetic), weights, create_graph=True)
        product = real_slope @ own_slope
        cosine = float(product.detach() / (real_slope.norm() * own_slope.detach().norm()))
        yield Step(weights, float(real_loss.detach()), product, cosine)
        weights = weights - lr * own_slope
