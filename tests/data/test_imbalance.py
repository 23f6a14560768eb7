"""Unbalanced subsets against their definitions."""

import itertools

import pytest
import torch

from teddy.data.imbalance import counts_by_long_tail, counts_by_shares, subset_of


def test_shares_are_spread_between_their_bounds():
    kept = counts_by_shares([500] * 400, [0.4, 1.0], seed=0)
    shares = torch.tensor(kept) / 500
    assert 0.4 <= shares.min() < 0.42
    assert 0.98 < shares.max() <= 1
    assert shares.mean().item() == pytest.approx(0.7, abs=0.03)
    assert kept[:5] == counts_by_shares([500] * 5, [0.4, 1.0], seed=0)
    assert kept != counts_by_shares([500] * 400, [0.4, 1.0], seed=1)
    assert counts_by_shares([500, 30], [1.0, 1.0], seed=0) == [500, 30]


def test_a_long_tail_falls_by_one_ratio():
    kept = counts_by_long_tail([5000] * 10, 100)
    assert (kept[0], kept[-1]) == (5000, 50)
    ratios = [after / before for before, after in itertools.pairwise(kept)]
    assert ratios == pytest.approx([100 ** (-1 / 9)] * 9, rel=0.01)
    assert counts_by_long_tail([9, 7], 1) == [7, 7]
    assert counts_by_long_tail([5, 5, 5], 1000)[-1] == 1


def test_a_subset_holds_the_counts_and_a_smaller_one_lies_within_it():
    labels = torch.arange(90) % 3
    large, small = subset_of(labels, [30, 20, 1], 0), subset_of(labels, [10, 5, 1], 0)
    assert torch.bincount(labels[large]).tolist() == [30, 20, 1]
    assert set(small.tolist()) < set(large.tolist())
    assert large.tolist() == sorted(set(large.tolist()))
    assert not torch.equal(small, subset_of(labels, [10, 5, 1], 1))
