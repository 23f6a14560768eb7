"""Whose time it was: students that train together share a fit, but each has seconds of its own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import torch


class SharedClock:
    """Deals out wall time: a student's own turns to it, what is done for several to each of them in equal parts.

    The seconds of all add up to the wall time of their training, and a student that trains alone gets all of it.

    Args:
        spent: seconds of earlier runs, by student.
        device: where they train; it is waited for before the clock is read.
    """

    def __init__(self, spent: Sequence[float], device: torch.device) -> None:
        self.seconds = list(spent)
        self._device = device
        self._mark = self._now()

    def charge(self, students: Iterable[int]) -> None:
        """Deals the time since the last charge to ``students``, in equal parts; among none it is forgotten."""
        now, among = self._now(), list(students)
        for student in among:
            self.seconds[student] += (now - self._mark) / len(among)
        self._mark = now

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.monotonic()
