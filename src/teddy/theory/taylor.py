"""The unrolled objective and its first-order Taylor approximation (Prop. 1; Eq. 1, 3, 10).

Weights θ are vectors (P,), as :class:`teddy.models.stateless.StatelessNetwork` takes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from teddy.methods.unrolled import unroll
from teddy.models.stateless import StatelessNetwork

Batch = tuple[torch.Tensor, torch.Tensor]  # normalised images (N, C, H, W) and their labels (N,)


def unrolled(
    network: StatelessNetwork, weights: torch.Tensor, synthetic: Batch, real: Batch, lr: float, steps: int
) -> torch.Tensor:
    """The objective of Eq. 1, l(T; θ^(T)) after SGD on S, with a graph back through every step to the images of S."""
    rate = torch.tensor(lr, dtype=weights.dtype, device=weights.device)
    trained = unroll(network, weights, lambda step: synthetic, range(steps), rate)
    return F.cross_entropy(network(trained, real[0]), real[1])


@dataclass(frozen=True)
class Step:
    """One step of training on S."""

    weights: torch.Tensor  # θ^(t), constants
    real: float  # l(T; θ^(t))
    product: torch.Tensor  # g_T^(t) · g_S^(t) of Eq. 3, with a graph back to the images through this step alone
    cosine: float  # of the two gradients (Eq. 11)


def training(
    network: StatelessNetwork, weights: torch.Tensor, synthetic: Batch, real: Batch, lr: float
) -> Iterator[Step]:
    """The steps t = 0, 1, … of the training of Eq. 1, without end.

    Eq. 3's approximation of l(T; θ^(T)) is the first step's ``real`` less ``lr`` times the sum of the first T products. As θ^(t)
    are constants, each product may be differentiated and let go, so the memory is that of one step. The gradients are still
    those of Eq. 1 to first order in ``lr``.
    """
    while True:
        real_slope, logits = network.gradient(weights, *real)
        own_slope, _ = network.gradient(weights, *synthetic, create_graph=True)
        product = real_slope @ own_slope
        cosine = float(product.detach() / (real_slope.norm() * own_slope.detach().norm()))
        yield Step(weights, float(F.cross_entropy(logits, real[1])), product, cosine)
        weights = weights - lr * own_slope.detach()
