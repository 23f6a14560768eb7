"""References that take their turn inside a real ``Trainer.fit``, so that ours is timed with all that Lightning does."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L

from benchmarks.timing import Turns
from teddy.runtime.loggers import RunLog
from teddy.runtime.precision import Compute
from teddy.runtime.trainer import make_trainer


class InsideFit(L.Callback):
    """What lies between two turns of the references is ours: the steps, the loader, the logger and every callback.

    Args:
        epochs: a round of ours is ``turns.ours_per_round`` epochs; else as many steps.
    """

    def __init__(self, turns: Turns, epochs: bool = False) -> None:
        self.turns, self.epochs = turns, epochs
        self._count = 0

    @property
    def length(self) -> int:
        """How many steps or epochs the fit must have: at the beginning of the last one ours has been timed often enough."""
        return self.turns.all_rounds * self.turns.ours_per_round + 1

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not self.epochs:
            self._next()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.epochs:
            self._next()

    def _next(self) -> None:
        if self._count % self.turns.ours_per_round == 0:
            self.turns.take()
        self._count += 1


def fit(
    module: L.LightningModule,
    inside: InsideFit,
    compute: Compute,
    folder: Path,
    stage: str,
    max_epochs: int,
    callbacks: Sequence[L.Callback] = (),
    log_every: int = 50,
    **options: Any,
) -> tuple[float, list[float]]:
    """Runs a fit as the stages do, with the references inside; median seconds of ours, and of each reference.

    Args:
        options: of ``Trainer.fit``.
    """
    trainer = make_trainer(
        compute,
        max_epochs=max_epochs,
        folder=folder,
        logger=RunLog(folder).stage(stage),
        callbacks=[inside, *callbacks],
        log_every=log_every,
    )
    with quiet():
        trainer.fit(module, **options)
    return inside.turns.median_between(), inside.turns.medians()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps what a stage tells its user about its progress away from the benchmark's own words."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield
