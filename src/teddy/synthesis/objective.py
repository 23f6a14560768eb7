"""Eq. 7 (Eq. 21 in the appendix) as pure functions.

``L(x) = sum_k [ u * CE(h_k(x), y) + alpha * sum_l w_l (||mean_l(x) - RM_l||_2 + ||var_l(x) - RV_l||_2) ]``

over the teachers k of a block and their BatchNorm layers l. The paper writes neither alpha (it is Table 7's "weight of BN loss")
nor w_l (10 for the first layer, as in SRe2L).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
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
    """One value of Eq. 7 and its two parts before weighting, scalars."""

    total: torch.Tensor
    ce: torch.Tensor
    bn: torch.Tensor


def statistics_distance(layers: Sequence[LayerStatistics], first_bn: float) -> torch.Tensor:
    """The sum over layers of the plain (not squared) L2 distances of mean and variance, the two norms of Eq. 7."""
    distances = [
        torch.linalg.vector_norm(layer.mean - layer.running_mean)
        + torch.linalg.vector_norm(layer.var - layer.running_var)
        for layer in layers
    ]
    return first_bn * distances[0] + sum(distances[1:], torch.zeros_like(distances[0]))


def teacher_terms(teacher: MatchedTeacher, images: torch.Tensor, labels: torch.Tensor, weights: Weights) -> Terms:
    """One teacher's summand of Eq. 7 for normalised images (N, C, H, W) of classes (N,)."""
    logits, layers = teacher(images)
    ce = F.cross_entropy(logits.to(layers[0].mean.dtype), labels)
    bn = statistics_distance(layers, weights.first_bn)
    return Terms(weights.ce * ce + weights.bn * bn, ce, bn)


def ensemble_gradient(
    teachers: Iterable[MatchedTeacher], images: torch.Tensor, labels: torch.Tensor, weights: Weights
) -> tuple[torch.Tensor, Terms]:
    """The gradient of Eq. 7 with respect to ``images``, one teacher at a time.

    The sum over teachers is linear, so each teacher's graph is walked back and freed before the next one is built: the memory
    is that of a single teacher however many there are (invariant 4).

    Args:
        images: normalised, (N, C, H, W); what lies before them in a graph is not entered.

    Returns:
        The gradient, shaped like ``images``, and the detached terms summed over the teachers.
    """
    leaf = images.detach().requires_grad_()
    gradient = torch.zeros_like(leaf)
    total = ce = bn = torch.zeros((), device=leaf.device, dtype=leaf.dtype)
    for teacher in teachers:
        terms = teacher_terms(teacher, leaf, labels, weights)
        gradient += torch.autograd.grad(terms.total, leaf)[0]
        total, ce, bn = total + terms.total.detach(), ce + terms.ce.detach(), bn + terms.bn.detach()
    return gradient, Terms(total, ce, bn)
