"""Progress of everything long: one live display on a terminal, plain lines elsewhere.

A :class:`StageProgress` inside another becomes a second row of the same display, because a terminal can hold only one.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any, ClassVar

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from teddy.artifacts.processes import is_leader

Note = str | float | Callable[[], str | float]

REFRESH_SECONDS = 0.25
LINE_SECONDS = 10.0
REHEARSAL_SECONDS = 0.2  # for which units are timed, after the first one
LONG_UNIT = 2.0  # seconds of a first unit after which no second one is waited for


def duration(seconds: float) -> str:
    """Write seconds in a readable form: ``8 s``, ``3:05``, ``2:03:05``, ``1 d 2:03:05``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes}:{rest:02}"
    days, hours = divmod(hours, 24)
    return (f"{days} d " if days else "") + f"{hours}:{minutes:02}:{rest:02}"


def counted(number: int, noun: str) -> str:
    """Write a number of things: ``1 block``, ``3,000 blocks``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class Enough(BaseException):
    """The end of work that was begun only to be timed."""


class Rehearsal:
    """The speed of a build's first units: of the first progress that counts any, which then ends by :class:`Enough`."""

    def __init__(self) -> None:
        self.label, self.total = "", 0  # of that progress; units that were found finished are no part of the total
        self.each: float | None = None  # seconds per unit; None if nothing was counted
        self._since, self._units = 0.0, 0

    def count(self, progress: StageProgress, n: int) -> None:
        """Take the time of ``n`` more units; the first ones, which are slower, count only where they take long."""
        now = time.monotonic()
        if self.each is None:
            self.label, self.total, self._since = progress.label, progress.total - progress.found, now
            self.each = (now - progress.started) / n
            if now - progress.started > LONG_UNIT:
                raise Enough
            return
        self._units += n
        self.each = (now - self._since) / self._units
        if now - self._since > REHEARSAL_SECONDS:
            raise Enough


class StageProgress:
    """The progress of a stage: units such as ``blocks`` done, speed and time left. Silent in all processes but the first.

    Units ``done`` by an earlier run count as done but not for the speed.
    """

    rehearsal: ClassVar[Rehearsal | None] = None  # where units are timed instead of shown
    muted: ClassVar[bool] = False
    whole: ClassVar[Any] = None  # the run that all displays belong to, a teddy.runtime.forecast.RunProgress
    _live: ClassVar[Progress | None] = None

    def __init__(self, label: str, total: int, unit: str, *, done: int = 0) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self.found = done
        self._notes: dict[str, Note] = {}
        self._silent = not is_leader() or StageProgress.muted
        self._display: Progress | None = None

    def __enter__(self) -> StageProgress:
        self.started = self._next_show = time.monotonic()
        if self._silent:
            return self
        # Below a live display, stderr is that display's and no terminal, at least before rich 15.
        if StageProgress._live is None and (not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb"):
            self._next_show += LINE_SECONDS
            self._show(self._count())
            return self
        if StageProgress._live is None:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[status]}"))
            StageProgress._live = Progress(*columns, console=Console(stderr=True), refresh_per_second=4)
            StageProgress._live.start()
        self._display = StageProgress._live
        total = max(self.total, 1)
        self._row = self._display.add_task(self.label, total=total, completed=self.done, status=self._count())
        return self

    def advance(self, n: int = 1, **notes: Note) -> None:
        """Count ``n`` more units; ``notes`` are short facts to show, e.g. ``loss=2.31``.

        A note that is a function is called only when something is shown: a loss on the GPU is not waited for at every step.
        """
        self.done += n
        self._notes.update(notes)
        if StageProgress.rehearsal is not None and n:
            StageProgress.rehearsal.count(self, n)
        if StageProgress.whole is not None:
            StageProgress.whole.advance(self.label, n)
        now = time.monotonic()
        if not self._silent and now >= self._next_show:
            self._next_show = now + (LINE_SECONDS if self._display is None else REFRESH_SECONDS)
            self._show(self._status(now))

    def skip(self, n: int) -> None:
        """Count ``n`` units that were found finished: done, but not for the speed."""
        self.done += n
        self.found += n

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._silent:
            return
        ending = "done" if kind is None else "stopped"
        spent = duration(time.monotonic() - self.started)
        self._show(f"{self._count()}, {ending} in {spent}{self._note_text()}")
        if self._display is not None and len(self._display.tasks) > 1:
            self._display.remove_task(self._row)
        elif self._display is not None:
            self._display.stop()
            StageProgress._live = None

    def _show(self, status: str) -> None:
        if self._display is None:
            print(f"{self.label}: {status}", file=sys.stderr, flush=True)
        else:
            self._display.update(self._row, completed=self.done, status=status)

    def _count(self) -> str:
        percent = 100 * self.done // self.total if self.total else 100
        return f"{self.done}/{self.total} {self.unit} ({percent} %)"

    def _status(self, now: float) -> str:
        elapsed, fresh = now - self.started, self.done - self.found
        if fresh <= 0 or elapsed <= 0:
            return self._count() + self._note_text()
        rate = fresh / elapsed
        speed = f"{rate:.3g} {self.unit}/s" if rate >= 1 else f"{elapsed / fresh:.3g} s each"
        left = max(self.total - self.done, 0) / rate
        whole = "" if StageProgress.whole is None else StageProgress.whole.status()
        return f"{self._count()}, ETA {duration(left)}, {speed}{self._note_text()}{whole}"

    def _note_text(self) -> str:
        shown = {name: note() if callable(note) else note for name, note in self._notes.items()}
        return "".join(f", {name} {f'{note:.4g}' if isinstance(note, float) else note}" for name, note in shown.items())


class ProgressCallback(L.Callback):
    """Show a Lightning fit as a :class:`StageProgress`: one unit per training batch, and the last loss.

    ``total`` and ``done`` include the batches of earlier runs.
    """

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        self._progress = StageProgress(label, total, "steps", done=done)
        self._open = contextlib.ExitStack()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._open.enter_context(self._progress)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._progress.advance(loss=outputs["loss"].item)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._open.close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._open.__exit__(type(exception), exception, None)
