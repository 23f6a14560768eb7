"""Alternating measurements, on a clock that only the measured functions advance."""

from __future__ import annotations

import pytest
import torch

from benchmarks.setting import Setting, made_up_pool, made_up_spec
from benchmarks.synthesis import eq7, floor, timed
from benchmarks.timing import Turns, compare, interleaved
from teddy.runtime.device import DeviceConfig

CPU = torch.device("cpu")


class FakeClock:
    """The sum of all durations so far."""

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


def test_functions_alternate_and_the_median_without_the_warm_up_counts():
    clock = FakeClock()
    works = [clock.work("a", 100, 1, 5, 3), clock.work("b", 200, 10, 20, 90)]
    assert interleaved(works, CPU, rounds=3, clock=clock) == [3, 20]
    assert clock.order == ["a", "b"] * 4


def test_the_time_of_a_round_is_divided_by_its_repetitions():
    clock = FakeClock()
    assert interleaved([clock.work("a", 9, 9, 1, 3, 5, 7)], CPU, rounds=2, per_round=2, clock=clock) == [4]


def test_what_happens_between_two_rounds_is_ours():
    clock = FakeClock()
    turns = Turns([clock.work("reference", 7, 7, 7, 7)], CPU, rounds=3, ours_per_round=10, clock=clock)
    for ours in (50, 10, 30, 20):
        turns.take()
        clock.now += ours
    turns.take()  # the reference has run often enough
    assert turns.median_between() == 2
    assert turns.medians() == [7]
    assert len(clock.order) == turns.rounds


@pytest.mark.parametrize(("limit", "ok"), [(1.4, False), (1.5, True)])
def test_a_row_compares_the_ratio_with_its_limit(limit, ok):
    row = compare("what (s)", ours=3.0, reference=2.0, limit=limit)
    assert (row.ratio, row.goal, row.ok) == (1.5, f"<= {limit:.2f}", ok)


@pytest.mark.parametrize("per_round", [1, 2])
def test_references_run_inside_a_real_fit(tmp_path, per_round):
    device_config = DeviceConfig("cpu", "32-true")
    setting = Setting(device_config, tmp_path, quick=True)
    pool = made_up_pool(tmp_path, "convnet2_w4", made_up_spec(16), 2)
    calls: list[int] = []
    passes = floor(pool, 10, device_config)
    turns = Turns([lambda: (calls.append(1), passes())], CPU, rounds=setting.rounds, per_round=per_round)
    method = eq7(10, 2, turns.length)
    ours, (reference,) = timed(method, pool, turns, device_config, setting.scratch("fit"))
    assert len(calls) == turns.rounds * per_round
    assert len(turns.between) == turns.rounds
    assert method.iterations == 4 * per_round + 1
    assert ours > 0
    assert reference > 0
