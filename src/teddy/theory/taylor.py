"""The unrolled objective and its first-order Taylor approximation (Prop. 1; Eq. 1, 3, 10)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

Weights = dict[str, torch.Tensor]
Batch = tuple[torch.Tensor, torch.Tensor]
"""Normalised images (N, C, H, W) and their labels (N,)."""


def weights_of(network: nn.Module) -> Weights:
    """Copies of a network's parameters, which can be differentiated by: θ^(0)."""
    return {name: each.detach().clone().requires_grad_() for name, each in network.named_parameters()}


def loss(network: nn.Module, weights: Weights, batch: Batch) -> torch.Tensor:
    """The mean cross-entropy l(·; θ) of a batch; BatchNorm layers use the batch's own statistics."""
    return F.cross_entropy(functional_call(network, weights, (batch[0],)), batch[1])


def unrolled(
    network: nn.Module, weights: Weights, synthetic: Batch, real: Batch, lr: float, steps: int
) -> torch.Tensor:
    """The objective of Eq. 1, l(T; θ^(T)) after SGD on S, with a graph back through every step to the images of S."""
    for _ in range(steps):
        slopes = torch.autograd.grad(loss(network, weights, synthetic), list(weights.values()), create_graph=True)
        weights = {name: each - lr * slope for (name, each), slope in zip(weights.items(), slopes, strict=True)}
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

    weights: Weights
    real: float
    product: torch.Tensor
    cosine: float


def training(network: nn.Module, weights: Weights, synthetic: Batch, real: Batch, lr: float) -> Iterator[Step]:
    """The steps t = 0, 1, … of the training of Eq. 1, without end.

    Eq. 3's approximation of l(T; θ^(T)) is the first step's ``real`` less ``lr`` times the sum of the first T products. As θ^(t)
    are constants, each product may be differentiated and let go, so the memory is that of one step. The gradients are still
    those of Eq. 1 to first order in ``lr``.
    """
    while True:
        weights = {name: each.detach().requires_grad_() for name, each in weights.items()}
        real_loss = loss(network, weights, real)
        real_slopes = torch.autograd.grad(real_loss, list(weights.values()))
        own_slopes = torch.autograd.grad(loss(network, weights, synthetic), list(weights.values()), create_graph=True)
        real_slope, own_slope = (torch.cat([each.flatten() for each in some]) for some in (real_slopes, own_slopes))
        product = real_slope @ own_slope
        cosine = float(product.detach() / (real_slope.norm() * own_slope.detach().norm()))
        yield Step(weights, float(real_loss.detach()), product, cosine)
        pairs = zip(weights.items(), own_slopes, strict=True)
        weights = {name: each - lr * slope.detach() for (name, each), slope in pairs}
