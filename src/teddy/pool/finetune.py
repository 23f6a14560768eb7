"""A few steps of training for a pruned network (D.1, Table 6), and the batches that its BatchNorm layers are measured on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn

from teddy.config.errors import StageFailed
from teddy.data.batches import EpochOrder, load_batches
from teddy.data.datamodule import RealData
from teddy.data.images import DecodedImages
from teddy.pool.recut import FineTune
from teddy.pool.schedule import Recipe
from teddy.pool.teacher import TeacherTraining
from teddy.runtime.loggers import StageLogger
from teddy.runtime.precision import Compute
from teddy.runtime.progress import StageProgress
from teddy.runtime.trainer import make_trainer

CALIBRATION_BATCH = 128
"""Images that one estimate of BatchNorm's statistics is made of."""


class FineTuning(TeacherTraining):
    """Teacher training for a number of steps, which may end within an epoch."""

    def __init__(self, network: nn.Module, plan: FineTune, steps: int, seed: int) -> None:
        constant = Recipe(
            epochs=1,
            lr=plan.lr,
            momentum=plan.momentum,
            weight_decay=plan.weight_decay,
            batch_size=plan.batch_size,
            schedule="constant",
            step_size=1,
            gamma=1.0,
            warmup_epochs=0,
        )
        super().__init__(network, constant, seed)
        self.plan, self.steps = plan, steps

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Sets the step's learning rate."""
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = self.plan.lr_at(self.global_step, self.steps)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Ends the training when the budget is spent."""
        self.trainer.should_stop = self.global_step >= self.steps


def fine_tune(
    network: nn.Module,
    plan: FineTune,
    steps: int,
    data: RealData,
    seed: int,
    compute: Compute,
    folder: Path,
    logger: StageLogger,
    progress: StageProgress,
    title: str,
) -> None:
    """Trains a network in place for ``steps`` batches.

    Args:
        data: its batch size is the plan's, its seed that of order and augmentation.
        title: of the network, for the display that it shares with others and for the message.

    Raises:
        StageFailed: the weights are no longer numbers.
    """
    if steps == 0:
        return
    trainer = make_trainer(
        compute,
        max_epochs=math.ceil(steps / len(data.train_dataloader())),
        folder=folder,
        logger=logger,
        callbacks=[_Shared(progress, title)],
    )
    trainer.fit(FineTuning(network.train(), plan, steps, seed), datamodule=data)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values()):
        raise StageFailed(f"fine-tuning of the pruned teacher {title} diverged; lower pool.strategy.lr={plan.lr}.")


def calibration_batches(data: RealData, images: int, seed: int, compute: Compute) -> Iterator[torch.Tensor]:
    """Random training images, augmented as in training: normalised batches (n, C, H, W) on the device.

    Args:
        images: how many, at most all; each one once.
        seed: of choice and augmentation.
    """
    cropped = data.augment.crop == "resized" and isinstance(data.train, DecodedImages)
    order = EpochOrder(data.train_indices, CALIBRATION_BATCH, seed)
    loader = load_batches(data.train, order, compute.workers, data.augment if cropped else None, seed)
    left = images
    for pixels, _, indices in loader:
        count = min(left, len(indices))
        if count < 2:  # of which nothing can be estimated
            return
        inputs = data.augment.apply(pixels[:count].to(compute.device), indices[:count], seed, 0, cropped=cropped)
        yield data.spec.normalise(inputs)
        left -= count


class _Shared(L.Callback):
    """Advances a display that several fits share by one unit per step."""

    def __init__(self, progress: StageProgress, title: str) -> None:
        self._progress, self._title = progress, title

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._progress.advance(member=self._title, loss=outputs["loss"].detach().item)
