"""Subsets of a pool, against the paper's sizes and what their names promise."""

from itertools import pairwise

import pytest

from teddy.config import checks
from teddy.labels.members import MEMBER_POLICIES


def test_the_words_of_the_configuration_are_the_policies():
    assert set(checks.WORDS["labels.member_policy"]) == set(MEMBER_POLICIES)


@pytest.mark.parametrize("policy", MEMBER_POLICIES)
@pytest.mark.parametrize("count", [1, 2, 4, 6, 8, 9])
def test_every_policy_gives_so_many_different_teachers_early_to_late(policy, count):
    chosen = MEMBER_POLICIES[policy](9, count, 3)
    assert len(chosen) == len(set(chosen)) == count
    assert chosen == sorted(chosen)
    assert set(chosen) <= set(range(9))


@pytest.mark.parametrize("size", range(2, 14))
def test_spread_is_even(size):
    for count in range(2, size + 1):
        chosen = MEMBER_POLICIES["spread"](size, count, 0)
        assert (chosen[0], chosen[-1]) == (0, size - 1)
        gaps = [later - earlier for earlier, later in pairwise(chosen)]
        assert max(gaps) - min(gaps) <= 2
        step = (size - 1) / (count - 1)
        assert all(abs(index - i * step) <= 0.5 for i, index in enumerate(chosen))


def test_spread_keeps_both_ends():
    assert MEMBER_POLICIES["spread"](9, 1, 0) == [8]
    assert MEMBER_POLICIES["spread"](9, 2, 0) == [0, 8]
    assert MEMBER_POLICIES["spread"](9, 3, 0) == [0, 4, 8]


def test_last_are_the_latest():
    assert MEMBER_POLICIES["last"](9, 3, 0) == [6, 7, 8]


def test_random_is_the_seeds_and_a_larger_draw_holds_the_smaller():
    draws = {tuple(MEMBER_POLICIES["random"](9, 4, seed)) for seed in range(20)}
    assert len(draws) > 5
    for seed in range(20):
        assert set(MEMBER_POLICIES["random"](9, 4, seed)) < set(MEMBER_POLICIES["random"](9, 6, seed))
