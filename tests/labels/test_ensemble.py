"""The pool's mean logits, and subsets of a pool against the paper's sizes."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from teddy.labels.ensemble import PoolLabeller, spread_members


def teachers(n: int = 3) -> list[nn.Module]:
    torch.manual_seed(0)
    make = lambda: nn.Sequential(  # noqa: E731
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 36, 5)
    )
    return [make() for _ in range(n)]


def test_labeller_is_the_mean_over_teachers() -> None:
    pool, images = teachers(), torch.randn(10, 3, 8, 8)
    logits = PoolLabeller(pool)(images)
    with torch.no_grad():
        expected = sum(teacher.eval()(images) for teacher in pool) / 3
    torch.testing.assert_close(logits, expected)
    assert logits.dtype == torch.float32


def test_labels_can_be_learned_from() -> None:
    logits = PoolLabeller(teachers())(torch.randn(2, 3, 8, 8))
    assert not logits.is_inference()
    student = torch.zeros(2, 5, requires_grad=True)
    (student * logits).sum().backward()
    assert torch.equal(student.grad, logits)


def test_labelling_leaves_the_teachers_as_they_were() -> None:
    pool = teachers(1)
    before = {name: value.clone() for name, value in pool[0].state_dict().items()}
    PoolLabeller(pool)(torch.randn(6, 3, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in pool[0].state_dict().items())


def test_autocast_changes_the_arithmetic_not_the_type() -> None:
    pool, images = teachers(), torch.randn(4, 3, 8, 8)
    exact, rough = (
        PoolLabeller(pool)(images),
        PoolLabeller(pool, autocast=lambda: torch.autocast("cpu", torch.bfloat16))(images),
    )
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    torch.testing.assert_close(exact, rough, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("size", range(2, 14))
def test_members_are_spread_evenly_from_the_first_to_the_last(size: int) -> None:
    for count in range(2, size + 1):
        chosen = spread_members(size, count)
        assert len(chosen) == len(set(chosen)) == count
        assert (chosen[0], chosen[-1]) == (0, size - 1)
        gaps = [later - earlier for earlier, later in pairwise(chosen)]
        assert min(gaps) > 0
        assert max(gaps) - min(gaps) <= 2
        step = (size - 1) / (count - 1)
        assert all(abs(index - i * step) <= 0.5 for i, index in enumerate(chosen))


def test_one_member_is_the_last_and_none_means_all() -> None:
    assert spread_members(9, 1) == [8]
    assert spread_members(9, 2) == [0, 8]
    assert spread_members(9, 3) == [0, 4, 8]
    assert spread_members(9, None) == spread_members(9, 9) == list(range(9))
