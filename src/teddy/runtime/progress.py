"""What a person sees while something long runs: one live bar on a terminal, plain lines without one.

A second :class:`StageProgress` inside a first becomes a second row of the same live display, because a
terminal can hold only one.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar

import lightning as L
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

Note = str | float | Callable[[], str | float]

REFRESH_SECONDS = 0.25
LINE_SECONDS = 10.0


def duration(seconds: float) -> str:
    """Seconds as people say them: ``8 s``, ``3:05``, ``2:03:05``, ``1 d 2:03:05``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes}:{rest:02}"
    days, hours = divmod(hours, 24)
    return (f"{days} d " if days else "") + f"{hours}:{minutes:02}:{rest:02}"


def _on_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class StageProgress:
    """Shows how far a stage is, how fast, and when it will be done. Silent on every rank but the first.

    Args:
        label: what is being done, e.g. ``synthesis``.
        total: how many units there are.
        unit: what is counted, plural, e.g. ``blocks``.
        done: units finished by an earlier run; they count as done but not for the speed.
    """

    _live: ClassVar[Progress | None] = None

    def __init__(self, label: str, total: int, unit: str, *, done: int = 0) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self._before = done
        self._notes: dict[str, Note] = {}
        self._silent = rank_zero_only.rank != 0  # type: ignore[attr-defined]
        self._display: Progress | None = None
        self._owns_display = False

    def __enter__(self) -> StageProgress:
        self._started = time.monotonic()
        self._next_show = self._started + LINE_SECONDS
        if self._silent:
            return self
        if not _on_terminal():
            self._print(f"{self.label}: {self._count()}")
            return self
        self._owns_display = StageProgress._live is None
        if StageProgress._live is None:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[status]}"))
            StageProgress._live = Progress(*columns, console=Console(stderr=True), refresh_per_second=4)
            StageProgress._live.start()
        self._display = StageProgress._live
        self._row = self._display.add_task(
            self.label, total=max(self.total, 1), completed=self.done, status=self._count()
        )
        self._next_show = self._started
        return self

    def advance(self, n: int = 1, **notes: Note) -> None:
        """Counts ``n`` more units.

        Args:
            notes: short facts to show, e.g. ``loss=2.31``. A function is called only when something is shown,
                so a loss that lives on the GPU is not waited for at every step.
        """
        self.done += n
        self._notes.update(notes)
        now = time.monotonic()
        if self._silent or now < self._next_show:
            return
        if self._display is None:
            self._next_show = now + LINE_SECONDS
            self._print(f"{self.label}: {self._status(now)}")
        else:
            self._next_show = now + REFRESH_SECONDS
            self._display.update(self._row, completed=self.done, status=self._status(now))

    def skip(self, n: int) -> None:
        """Counts ``n`` units as done that took no time now, because they were found finished."""
        self.done += n
        self._before += n

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._silent:
            return
        ending = "done" if kind is None else "stopped"
        last = f"{self._count()}, {ending} in {duration(time.monotonic() - self._started)}{self._note_text()}"
        if self._display is None:
            self._print(f"{self.label}: {last}")
            return
        self._display.update(self._row, completed=self.done, status=last)
        if self._owns_display:
            self._display.stop()
            StageProgress._live = None
        else:
            self._display.remove_task(self._row)

    def _count(self) -> str:
        percent = 100 * self.done // self.total if self.total else 100
        return f"{self.done}/{self.total} {self.unit} ({percent} %)"

    def _status(self, now: float) -> str:
        elapsed, fresh = now - self._started, self.done - self._before
        if fresh <= 0 or elapsed <= 0:
            return self._count() + self._note_text()
        rate = fresh / elapsed
        speed = f"{rate:.3g} {self.unit}/s" if rate >= 1 else f"{elapsed / fresh:.3g} s each"
        left = max(self.total - self.done, 0) / rate
        return f"{self._count()}, ETA {duration(left)}, {speed}{self._note_text()}"

    def _note_text(self) -> str:
        shown = {name: note() if callable(note) else note for name, note in self._notes.items()}
        texts = (f", {name} {f'{note:.4g}' if isinstance(note, float) else note}" for name, note in shown.items())
        return "".join(texts)

    @staticmethod
    def _print(line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class ProgressCallback(L.Callback):
    """Shows a Lightning fit as a :class:`StageProgress`, one unit per training batch, with the last loss
    beside it.

    Args:
        total: training batches of the whole fit, those of earlier runs included.
        done: training batches that earlier runs finished.
    """

    def __init__(self, label: str, total: int, unit: str = "steps", *, done: int = 0) -> None:
        self._progress = StageProgress(label, total, unit, done=done)
        self._open = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._progress.__enter__()
        self._open = True

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = getattr(pl_module, "shown_loss", outputs.get("loss") if isinstance(outputs, dict) else outputs)
        if isinstance(loss, torch.Tensor):
            self._progress.advance(loss=loss.detach().item)
        else:
            self._progress.advance()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._close(None)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._close(exception)

    def _close(self, error: BaseException | None) -> None:
        if self._open:
            self._open = False
            self._progress.__exit__(type(error) if error else None, error, None)
