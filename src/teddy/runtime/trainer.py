"""Construction of Lightning Trainers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger

from teddy.runtime.device import DeviceConfig


def make_trainer(
    device_config: DeviceConfig,
    *,
    max_epochs: int,
    max_steps: int = -1,
    folder: Path,
    logger: Logger | None = None,
    callbacks: Sequence[L.Callback] = (),
    log_every: int = 50,
    validate: int = 0,
    single: bool = False,
) -> L.Trainer:
    """Build a Trainer that computes and logs, and leaves files, progress and resuming to callbacks.

    Args:
        max_epochs, max_steps: what remains to be run; -1: no limit.
        folder: Lightning's default folder; nothing is written there, but it must not be the working directory.
        callbacks: run after the user's own.
        log_every: steps between two logged values; nothing synchronises the device in between.
        validate: epochs between two runs of the module's validation loop; 0: none.
        single: each process works alone: one device, no strategy and none of the user's callbacks.
    """
    _quiet()
    callbacks = [*([] if single else device_config.callbacks()), *callbacks]
    alone = single or not device_config.together
    cuda = device_config.accelerator == "cuda"
    return L.Trainer(
        accelerator="gpu" if cuda else device_config.accelerator,
        devices=([torch.cuda.current_device()] if cuda else 1) if alone else device_config.devices,
        num_nodes=1 if alone else device_config.num_nodes,
        strategy="auto" if single or device_config.deterministic else device_config.strategy,
        precision=device_config.precision,  # type: ignore[arg-type]
        sync_batchnorm=device_config.sync_batchnorm and not alone,
        deterministic=device_config.deterministic,
        max_epochs=max_epochs,
        max_steps=max_steps,
        default_root_dir=folder,
        logger=logger or False,
        callbacks=callbacks,
        log_every_n_steps=log_every,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=1.0 if validate else 0,
        check_val_every_n_epoch=validate or 1,
        use_distributed_sampler=False,
    )


def _quiet() -> None:
    """Silence Lightning's notes on hardware and its advice, since our own progress reports what is done."""
    for name in (
        "pytorch.utilities.rank_zero",
        "pytorch.accelerators.cuda",
        "fabric.utilities.seed",
        "pytorch.trainer.connectors.signal_connector",
    ):
        logging.getLogger(f"lightning.{name}").setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers.*",  # loaders read tensors in memory, or their number of workers is configured
        ".*number of training batches.*is smaller than the logging interval.*",
        ".*You defined a `validation_step` but have no `val_dataloader`.*",
        ".*LeafSpec.*is deprecated.*",  # torch's own deprecation inside Lightning (Lightning issue 21326)
    ):
        warnings.filterwarnings("ignore", message=message)
