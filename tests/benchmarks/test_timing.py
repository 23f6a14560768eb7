"""Turns on a clock that stands still between the works."""

from __future__ import annotations

import pytest
import torch

from benchmarks.fits import InsideFit
from benchmarks.setting import Setting, made_up_pool, made_up_spec
from benchmarks.synthesis import floor, timed
from benchmarks.timing import Turns, at_least, at_most, compare, interleaved
from teddy.runtime.precision import Compute

CPU = torch.device("cpu")


class FakeClock:
    """Shows the time that the works have spent."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, *seconds: float):
        spent = iter(seconds)

        def work() -> None:
            self.order.append(name)
            self.now += next(spent)

        return work


def test_works_take_turns_and_the_median_without_the_warm_up_counts():
    clock = FakeClock()
    works = [clock.work("a", 100, 1, 5, 3), clock.work("b", 200, 10, 20, 90)]
    assert interleaved(works, CPU, rounds=3, clock=clock) == [3, 20]
    assert clock.order == ["a", "b"] * 4


def test_a_turn_of_several_is_divided_by_their_number():
    clock = FakeClock()
    assert interleaved([clock.work("a", 9, 9, 1, 3, 5, 7)], CPU, rounds=2, per_round=2, clock=clock) == [4]


def test_what_happens_between_two_turns_is_ours():
    clock = FakeClock()
    turns = Turns([clock.work("reference", 7, 7, 7, 7)], CPU, rounds=3, ours_per_round=10, clock=clock)
    for ours in (50, 10, 30, 20):
        turns.take()
        clock.now += ours
    turns.take()  # ends the last one; the reference has had all its turns
    assert turns.median_between() == 2
    assert turns.medians() == [7]
    assert len(clock.order) == turns.all_rounds


def test_goals():
    assert at_most(1.1).holds(1.1)
    assert not at_most(1.1).holds(1.11)
    assert at_least(2.5).holds(2.5)
    assert not at_least(2.5).holds(2.49)
    assert (at_most(1.1).text, at_least(2.5).text) == ("<= 1.10", ">= 2.50")
    row = compare("what (s)", ours=3.0, reference=2.0, goal=at_most(1.4))
    assert (row.ratio, row.goal, row.ok) == (1.5, "<= 1.40", False)


@pytest.mark.parametrize("per_round", [1, 2])
def test_references_run_inside_a_real_fit(tmp_path, per_round):
    compute = Compute("cpu", "float32")
    setting = Setting(compute, tmp_path, quick=True)
    pool = made_up_pool(tmp_path, "convnet2_w4", made_up_spec(16), 2)
    calls: list[int] = []
    passes = floor(pool, 10, compute)
    turns = Turns([lambda: (calls.append(1), passes())], CPU, rounds=setting.rounds, per_round=per_round)
    ours, (reference,) = timed(pool, 10, turns, compute, setting.scratch("fit"))
    assert len(calls) == turns.all_rounds * per_round
    assert len(turns.between) == turns.all_rounds
    assert InsideFit(turns).length == 4 * per_round + 1
    assert ours > 0
    assert reference > 0
