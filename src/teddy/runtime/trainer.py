"""The one place that builds a Lightning Trainer."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import Logger

from teddy.runtime.precision import Compute


def make_trainer(
    compute: Compute,
    *,
    max_epochs: int,
    folder: Path,
    logger: Logger | None = None,
    callbacks: Sequence[L.Callback] = (),
    log_every: int = 50,
    device_index: int = 0,
) -> L.Trainer:
    """A single-process Trainer that computes and logs, and leaves files, progress and resuming to our callbacks.

    Args:
        max_epochs: epochs that remain to be run.
        folder: Lightning's default folder; nothing is written there, but it must not be the working directory.
        log_every: steps between two logged values; nothing synchronises the device in between.
        device_index: which GPU, where there are several.
    """
    _quiet()
    return L.Trainer(
        accelerator="gpu" if compute.accelerator == "cuda" else compute.accelerator,
        devices=[device_index] if compute.accelerator == "cuda" else 1,
        precision=compute.lightning_precision,  # type: ignore[arg-type]
        max_epochs=max_epochs,
        default_root_dir=folder,
        logger=logger or False,
        callbacks=list(callbacks),
        log_every_n_steps=log_every,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
    )


def _quiet() -> None:
    """Silences Lightning's notes on hardware and its advice; our own progress says what goes on."""
    for name in (
        "lightning.pytorch.utilities.rank_zero",
        "lightning.pytorch.accelerators.cuda",
        "lightning.fabric.utilities.seed",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Loaders read tensors in memory or are given their number of workers on purpose.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*", module="lightning")
    warnings.filterwarnings("ignore", message=".*number of training batches.*is smaller than the logging interval.*")
    # The held-out split is measured by the snapshot callback, not by a validation loop.
    warnings.filterwarnings("ignore", message=".*passed in a `val_dataloader` but have no `validation_step`.*")
    # pytorch/pytorch's own deprecation inside Lightning (Lightning issue 21326).
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")
