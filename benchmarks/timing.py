"""Two computations timed alternately, so that whatever slows the machine down slows both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

Work = Callable[[], object]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what was measured, with the unit of ``ours`` and ``reference``.
        ratio: ours / reference.
        goal: upper limit of the ratio, such as ``<= 1.10``.
    """

    what: str
    ours: float
    reference: float
    ratio: float
    goal: str
    ok: bool


def compare(what: str, ours: float, reference: float, limit: float) -> Row:
    """The row of a measurement with an upper ``limit`` of its ratio."""
    ratio = ours / reference
    return Row(what, ours, reference, ratio, f"<= {limit:.2f}", ratio <= limit)


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished its queue; a CPU has none."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Turns:
    """Times references and whatever happens between two calls of :meth:`take`; the median over all rounds but the first counts.

    Args:
        works: the references.
        rounds: number of rounds that count, after one to warm up.
        per_round: repetitions of each reference in a round; times are of one of them.
        ours_per_round: repetitions of what happens in between; ``per_round`` if None.

    Attributes:
        length: repetitions that a loop around :meth:`take` must have: ours has been timed often enough when the last begins.
    """

    def __init__(
        self,
        works: Sequence[Work],
        device: torch.device,
        rounds: int,
        per_round: int = 1,
        ours_per_round: int | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.works, self.device, self.rounds = list(works), device, 1 + rounds
        self.per_round, self.ours_per_round = per_round, ours_per_round or per_round
        self.length = self.rounds * self.ours_per_round + 1
        self._clock = clock
        self.between: list[float] = []
        self.seconds: list[list[float]] = [[] for _ in self.works]
        self._since: float | None = None

    def take(self) -> None:
        """Stop the time in between, run and time every reference, and start the time in between again."""
        now = self._now()
        if self._since is not None:
            self.between.append((now - self._since) / self.ours_per_round)
        if len(self.between) == self.rounds:
            return
        for work, seconds in zip(self.works, self.seconds, strict=True):
            start = self._now()
            for _ in range(self.per_round):
                work()
            seconds.append((self._now() - start) / self.per_round)
        self._since = self._now()

    def medians(self) -> list[float]:
        """Seconds of each reference."""
        return [statistics.median(seconds[1:]) for seconds in self.seconds]

    def median_between(self) -> float:
        """Seconds of what happened between two calls of :meth:`take`."""
        return statistics.median(self.between[1:])

    def _now(self) -> float:
        synchronise(self.device)
        return self._clock()


def interleaved(
    works: Sequence[Work], device: torch.device, rounds: int, per_round: int = 1, clock: Clock = time.perf_counter
) -> list[float]:
    """Median seconds of each computation, run alternately: first, second, ..., first, second, ..."""
    turns = Turns(works, device, rounds, per_round, clock=clock)
    for _ in range(turns.rounds):
        turns.take()
    return turns.medians()
