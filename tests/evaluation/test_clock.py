"""Whose time it was, by a clock that the test turns itself."""

import itertools

import pytest
import torch

from teddy.evaluation import clock
from teddy.evaluation.clock import SharedClock


@pytest.fixture
def shared(monkeypatch):
    times = iter([100.0, 103.0, 105.0, 106.0, 110.0])
    monkeypatch.setattr(clock.time, "monotonic", lambda: next(times))
    return SharedClock([0.0, 50.0, 0.0], torch.device("cpu"))


def test_own_turns_and_equal_parts_of_the_rest(shared):
    shared.charge(range(3))  # 3 s for all
    shared.charge([0])  # 2 s
    shared.charge([])  # 1 s for nobody
    shared.charge([0, 2])  # 4 s for two
    assert shared.seconds == [1 + 2 + 2, 50 + 1, 1 + 2]


def test_all_that_passes_is_dealt_out(monkeypatch):
    ticks = itertools.accumulate(itertools.cycle([0.5, 0.25, 2.0]))
    monkeypatch.setattr(clock.time, "monotonic", lambda: next(ticks))
    found = SharedClock([0.0] * 4, torch.device("cpu"))
    for among in ([0, 1, 2, 3], [2], [1, 3], [0]) * 3:
        found.charge(among)
    assert sum(found.seconds) == sum(itertools.islice(itertools.cycle([0.25, 2.0, 0.5]), 12))
