"""Training of a teacher on real images, and the callback that keeps snapshots of it as weak teachers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from teddy.config.errors import Diverged
from teddy.models.classifier import Classifier, not_finite
from teddy.pool.schedule import FineTune, Recipe
from teddy.pool.sharpness import GSAM
from teddy.runtime import metrics
from teddy.runtime.resume import save_tensors
from teddy.runtime.seeding import seed_torch


class TeacherTraining(Classifier):
    """Cross-entropy training with SGD; a batch is ``(normalised images, labels, indices)``.

    ``factor`` gives the learning rate as a multiple of ``recipe.lr``, by the number of epochs or steps (``interval``) behind it.
    The seed is that of what the network draws itself, such as dropout; an interrupted run has done ``first_epoch`` full epochs.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        recipe: Recipe | FineTune,
        factor: Callable[[int], float],
        interval: str = "epoch",
        seed: int = 0,
        first_epoch: int = 0,
    ) -> None:
        super().__init__(network, num_classes)
        self.recipe, self.factor, self.interval = recipe, factor, interval
        self.seed, self.first_epoch = seed, first_epoch

    @property
    def epochs_done(self) -> int:
        """Full epochs behind the network at the end of the current one."""
        return self.first_epoch + self.current_epoch + 1

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """SGD, and a learning rate that is a pure function of the epoch: a resumed run needs no state of its scheduler."""
        recipe, parameters = self.recipe, self.network.parameters()
        options: dict[str, Any] = {"lr": recipe.lr, "momentum": recipe.momentum, "weight_decay": recipe.weight_decay}
        if recipe.sharpness is None:
            optimizer = torch.optim.SGD(parameters, **options)
        else:
            optimizer = GSAM(parameters, recipe.sharpness, **options)
        schedule = LambdaLR(optimizer, lambda count: self.factor(self.first_epoch + count))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": self.interval}}

    def training_step(self, batch: Sequence[torch.Tensor], batch_idx: int) -> torch.Tensor:
        seed_torch(self.seed, "teacher", self.first_epoch + self.current_epoch, batch_idx)
        loss = self.batch_loss(batch)
        self.watch(loss, self.global_step if self.interval == "step" else batch_idx)
        # Only when a value is due: self.log costs several percent of a small network's step.
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.log_dict({metrics.POOL_LOSS: loss, metrics.POOL_LR: self.lr})
        return loss

    def batch_loss(self, batch: Sequence[Any]) -> torch.Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def on_validation_epoch_end(self) -> None:
        # The horizontal axis of the accuracy on the held-out images.
        self.log(metrics.POOL_EPOCH, float(self.epochs_done), reduce_fx="max", sync_dist=True)


SAY_SECONDS = 1.0
"""Shortest time between two lines on accuracies: a small network has an epoch behind it in less."""
_log = logging.getLogger("teddy")


class SnapshotPool(L.Callback):
    """Snapshots of some epochs, counted from 1, saved as ``epoch-0007.safetensors``.

    There is a record of each: epoch, file, seconds of training up to it, without validation, and top1_holdout in percent. Those
    of earlier epochs are given when training is resumed, and the seconds up to there.
    """

    def __init__(
        self,
        folder: Path,
        epochs: Sequence[int],
        records: Sequence[dict[str, Any]] = (),
        seconds: float = 0.0,
        name: str = "pool",
    ) -> None:
        self.folder, self.epochs = folder, set(epochs)
        self.records, self.seconds = list(records), seconds
        self._since: float | None = None  # when the clock was started, which stops for validation
        self._name, self._said = name, 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self._since is None:
            self._since = time.monotonic()

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Stop the clock.

        Raises:
            Diverged: training has diverged, so that no later epoch can be of use.
        """
        assert isinstance(module, TeacherTraining)
        # Waits for the device, so that the time is the whole.
        bad = torch.tensor(float(len(not_finite(module.network))), device=module.device)
        if self._since is not None:
            self.seconds += time.monotonic() - self._since
            self._since = None
        if trainer.strategy.reduce(bad, reduce_op="sum"):  # the same in all processes
            raise Diverged(
                f"teacher training diverged in epoch {module.epochs_done} ({module.trouble()}); lower lr={module.recipe.lr} of "
                "pool.training or pool.strategy, or of the method's own pool."
            )

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, TeacherTraining)
        epoch = module.epochs_done
        if epoch not in self.epochs:
            return
        name = snapshot_file(epoch)
        if trainer.is_global_zero:
            save_tensors(self.folder / name, module.network.state_dict(), {"epoch": epoch})
        top1 = round(float(trainer.callback_metrics[module.score]), 3)
        self.records.append({"epoch": epoch, "file": name, "seconds": round(self.seconds, 2), "top1_holdout": top1})
        if epoch == max(self.epochs) or time.monotonic() - self._said > SAY_SECONDS:
            _log.info("%s: epoch %d, %.1f %% on held-out images", self._name, epoch, top1)
            self._said = time.monotonic()


def snapshot_file(epoch: int) -> str:
    """Name of the file with the weights after an epoch."""
    return f"epoch-{epoch:04d}.safetensors"
