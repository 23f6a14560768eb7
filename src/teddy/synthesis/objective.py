"""Eq. 7 (Eq. 21 in the appendix) as pure functions.

``L(x) = sum_k [ u * CE(h_k(x), y) + alpha * sum_l w_l (||mean_l(x) - RM_l||_2 + ||var_l(x) - RV_l||_2) ]``

over the teachers k of a block and their BatchNorm layers l. The paper writes neither alpha (it is Table 7's "weight of BN loss")
nor w_l (10 for the first layer, as in SRe2L).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional as F

from teddy.synthesis.statistics import LayerStatistics, MatchedTeacher


@dataclass(frozen=True)
class Weights:
    """The weights of Eq. 7's terms.

    Attributes:
        ce: u, of the classification term.
        bn: alpha, of the statistics.
        first_bn: w_1, of the first BatchNorm layer; every other layer has weight 1.
    """

    ce: float = 1.0
    bn: float = 0.01
    first_bn: float = 10.0


@dataclass(frozen=True)
class Terms:
    """The value of Eq. 7 for each block and its two parts before weighting, each (blocks,)."""

    total: torch.Tensor
    ce: torch.Tensor
    bn: torch.Tensor


def statistics_distance(layers: Sequence[LayerStatistics], first_bn: float) -> torch.Tensor:
    """The sum over layers of the plain (not squared) L2 distances of mean and variance, the two norms of Eq. 7: (blocks,)."""
    distances = [
        torch.linalg.vector_norm(layer.mean - layer.running_mean, dim=-1)
        + torch.linalg.vector_norm(layer.var - layer.running_var, dim=-1)
        for layer in layers
    ]
    return first_bn * distances[0] + sum(distances[1:], torch.zeros_like(distances[0]))


def distance_at_once(layers: Sequence[LayerStatistics], first_bn: float) -> torch.Tensor:
    """:func:`statistics_distance` in a dozen operations for all layers: one by one they take as long as a layer's passes."""
    own = torch.cat([values for layer in layers for values in (layer.mean, layer.var)], dim=1)
    known = torch.cat([values for layer in layers for values in (layer.running_mean, layer.running_var)])
    channels = tuple(len(layer.running_mean) for layer in layers)
    squares = (own - known).square() @ _membership(channels, known.dtype, known.device)
    # A norm of zero has no slope; so small a one gets the slope zero.
    norms = squares.clamp(min=torch.finfo(squares.dtype).tiny).sqrt()
    return norms.sum(1) + (first_bn - 1) * norms[:, :2].sum(1)


@functools.lru_cache(maxsize=16)
def _membership(channels: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Which norm a channel's squared difference belongs to, two for each layer: zeros and ones, (2 sum of C, 2 layers)."""
    sizes = torch.tensor([size for size in channels for _ in range(2)])
    norms = torch.arange(len(sizes)).repeat_interleave(sizes)
    return F.one_hot(norms, len(sizes)).to(device, dtype)


def teacher_terms(
    teacher: MatchedTeacher, images: torch.Tensor, labels: torch.Tensor, weights: Weights, blocks: int = 1
) -> Terms:
    """One teacher's summand of Eq. 7 for each of ``blocks`` blocks of the same size.

    Args:
        images: normalised, (N, C, H, W), block after block.
        labels: their classes, (N,).
    """
    logits, layers = teacher(images, blocks)
    return layer_terms(logits, labels, distance_at_once(layers, weights.first_bn), weights)


def layer_terms(logits: torch.Tensor, labels: torch.Tensor, distance: torch.Tensor, weights: Weights) -> Terms:
    """What :func:`teacher_terms` makes of a teacher's logits (N, classes) and the distance (blocks,) of its layers."""
    each = F.cross_entropy(logits.to(distance.dtype), labels, reduction="none")
    ce = each.view(len(distance), -1).mean(1)
    return Terms(weights.ce * ce + weights.bn * distance, ce, distance)


class Summand(Protocol):
    """One teacher's part of Eq. 7, with the weights bound."""

    def __call__(self, images: torch.Tensor, labels: torch.Tensor, *, blocks: int) -> Terms: ...


def summands(networks: Sequence[nn.Module], weights: Weights) -> list[Summand]:
    """A summand for each teacher; their BatchNorm layers are replaced by ones that measure."""
    return [functools.partial(teacher_terms, MatchedTeacher(network), weights=weights) for network in networks]


def ensemble_gradient(
    plan: Iterable[tuple[Summand, Sequence[int]]], images: torch.Tensor, labels: torch.Tensor, blocks: int = 1
) -> tuple[torch.Tensor, Terms]:
    """The gradient of Eq. 7 with respect to ``images``, one teacher at a time.

    The sum over teachers is linear, so each teacher's graph is walked back and freed before the next one is built: the memory
    is that of a single teacher however many there are (invariant 4). Blocks share nothing but the passes.

    Args:
        plan: each teacher with the blocks that it looks at, by their places.
        images: normalised, (N, C, H, W), ``blocks`` blocks of the same size one after the other; what lies before them in a
            graph is not entered.
        labels: their classes, (N,).

    Returns:
        The gradient, shaped like ``images``, and the detached terms summed over the teachers of each block.
    """
    images, gradient = images.detach(), None
    sums = torch.zeros(3, blocks, device=images.device, dtype=images.dtype)
    for summand, places in plan:
        everything = len(places) == blocks
        leaf, classes = (
            values if everything else torch.cat([values.chunk(blocks)[place] for place in places])
            for values in (images, labels)
        )
        leaf = leaf.detach().requires_grad_()
        terms = summand(leaf, classes, blocks=len(places))
        (slope,) = torch.autograd.grad(terms.total.sum(), leaf)
        values = torch.stack([terms.total, terms.ce, terms.bn]).detach()
        if everything:
            gradient, sums = slope if gradient is None else gradient.add_(slope), sums + values
            continue
        gradient = torch.zeros_like(images) if gradient is None else gradient
        # Place by place, since a list of indices would have to be copied to the device in each step.
        for own, place in enumerate(places):
            gradient.chunk(blocks)[place].add_(slope.chunk(len(places))[own])
            sums[:, place] += values[:, own]
    assert gradient is not None
    return gradient, Terms(*sums)
