from __future__ import annotations

import pytest

from teddy.runtime import forecast, progress


class Clock:
    """Time that a test sets."""

    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(forecast, "time", clock)
    return clock
