"""References that run inside a real ``Trainer.fit``, so that ours is timed with all that Lightning does."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L

from benchmarks.timing import Turns
from teddy.runtime.device import DeviceConfig
from teddy.runtime.loggers import RunLog
from teddy.runtime.trainer import make_trainer


class InsideFit(L.Callback):
    """Runs the references between two steps or epochs of a fit.

    Args:
        epochs: whether a round of ours is ``turns.ours_per_round`` epochs; else as many steps.
    """

    def __init__(self, turns: Turns, epochs: bool = False) -> None:
        self.turns, self.epochs = turns, epochs
        self._count = 0

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        if not self.epochs:
            self._next()

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self.epochs:
            self._next()

    def _next(self) -> None:
        if self._count % self.turns.ours_per_round == 0:
            self.turns.take()
        self._count += 1


def fit(
    module: L.LightningModule,
    inside: InsideFit,
    device_config: DeviceConfig,
    folder: Path,
    stage: str,
    callbacks: Sequence[L.Callback] = (),
    data: L.LightningDataModule | None = None,
    **options: Any,
) -> tuple[float, list[float]]:
    """Run a fit as the stages do, with the references inside; median seconds of ours, and of each reference.

    Args:
        options: of :func:`teddy.runtime.trainer.make_trainer`.
    """
    trainer = make_trainer(
        device_config,
        max_epochs=inside.turns.length if inside.epochs else 1,
        folder=folder,
        logger=RunLog(folder).stage(stage),
        callbacks=[inside, *callbacks],
        **options,
    )
    with quiet():
        trainer.fit(module, datamodule=data)
    return inside.turns.median_between(), inside.turns.medians()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the progress lines of a stage out of the benchmark's output."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield
