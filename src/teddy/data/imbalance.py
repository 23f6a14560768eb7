"""Subsets of a dataset by class: random shares of the classes (Table 3), a long tail, or a few images of each."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from teddy.runtime import seeding


def counts_by_shares(counts: Sequence[int], bounds: Sequence[float], seed: int) -> list[int]:
    """Images to keep of each class, of which there are ``counts``: a share of each, uniform between two bounds (Table 3)."""
    low, high = bounds
    draws = (float(seeding.uniform(seed, "share of a class", label)[0, 0]) for label in range(len(counts)))
    return [max(1, round(count * (low + (high - low) * draw))) for count, draw in zip(counts, draws, strict=True)]


def counts_by_long_tail(counts: Sequence[int], factor: float) -> list[int]:
    """Images to keep of each class: fewer from class to class by one ratio, the last class ``factor`` times fewer.

    The exponential profile of Cui et al. (CVPR 2019): ``n_c = n * factor^(-c / (C - 1))`` with n the smallest of ``counts``,
    so that no class has too few.
    """
    last = max(1, len(counts) - 1)
    return [max(1, round(min(counts) * factor ** (-label / last))) for label in range(len(counts))]


def subset_of(labels: torch.Tensor, counts: Sequence[int], seed: int) -> torch.Tensor:
    """Indices of ``counts[c]`` random images of each class c, ascending. A smaller count chooses among a larger one's."""
    chosen = []
    for label, count in enumerate(counts):
        members = torch.nonzero(labels == label).flatten()
        order = seeding.permutation(len(members), seed, "unbalanced subset", label)
        chosen.append(members[torch.from_numpy(order[:count])])
    return torch.cat(chosen).sort().values


def first_of_each_class(labels: torch.Tensor, order: torch.Tensor, count: int) -> torch.Tensor:
    """Indices, ascending, of at most ``count`` images of each class: the first of those at ``order`` (n,)."""
    by_class = order[torch.argsort(labels[order], stable=True)]
    sizes = torch.bincount(labels[order])
    place = torch.arange(len(order)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)  # in its class
    return by_class[place < count].sort().values
