"""Two pieces of work timed in turn, so that whatever slows the machine down slows both; and what the ratio must be."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Work = Callable[[], object]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Goal:
    """What a ratio has to be, in words and as a test."""

    text: str
    holds: Callable[[float], bool]


def at_most(limit: float) -> Goal:
    return Goal(f"<= {limit:.2f}", lambda ratio: ratio <= limit)


def at_least(limit: float) -> Goal:
    return Goal(f">= {limit:.2f}", lambda ratio: ratio >= limit)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what was measured, with the unit of ``ours`` and ``reference``.
        ratio: ours / reference.
    """

    what: str
    ours: float
    reference: float
    ratio: float
    goal: str
    ok: bool


def compare(what: str, ours: float, reference: float, goal: Goal) -> Row:
    ratio = ours / reference
    return Row(what, ours, reference, ratio, goal.text, goal.holds(ratio))


def synchronise(device: torch.device) -> None:
    """Waits until the device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Turns:
    """Lets several pieces of work take turns: the first rounds warm up, of the others the median counts.

    Args:
        works: the references; ours is what happens between two calls of :meth:`take`, or a work like the others.
        rounds: how many count, after ``warmup`` that do not.
        per_round: how often each work is done in its turn; times are for one of them.
        ours_per_round: how often what happens in between is done; as often, if not given.
    """

    def __init__(
        self,
        works: Sequence[Work],
        device: torch.device,
        rounds: int,
        warmup: int = 1,
        per_round: int = 1,
        ours_per_round: int | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.works, self.device, self.rounds, self.warmup = list(works), device, rounds, warmup
        self.per_round, self.ours_per_round = per_round, ours_per_round or per_round
        self._clock = clock
        self.between: list[float] = []
        self.seconds: list[list[float]] = [[] for _ in self.works]
        self._since: float | None = None

    @property
    def all_rounds(self) -> int:
        return self.warmup + self.rounds

    def take(self) -> None:
        """Ends the time in between, gives every work its turn, and begins the time in between anew."""
        now = self._now()
        if self._since is not None:
            self.between.append((now - self._since) / self.ours_per_round)
        if len(self.between) == self.all_rounds:
            return
        for work, seconds in zip(self.works, self.seconds, strict=True):
            start = self._now()
            for _ in range(self.per_round):
                work()
            seconds.append((self._now() - start) / self.per_round)
        self._since = self._now()

    def medians(self) -> list[float]:
        """Seconds of each work."""
        return [statistics.median(seconds[self.warmup :]) for seconds in self.seconds]

    def median_between(self) -> float:
        """Seconds of what happened between two turns."""
        return statistics.median(self.between[self.warmup :])

    def _now(self) -> float:
        synchronise(self.device)
        return self._clock()


def interleaved(works: Sequence[Work], device: torch.device, rounds: int, **options: Any) -> list[float]:
    """Median seconds of each work, done in turn: first, second, ..., first, second, ..."""
    turns = Turns(works, device, rounds, **options)
    for _ in range(turns.all_rounds):
        turns.take()
    return turns.medians()
