"""Training of the base model on real images, and the callback that caches its early epochs as weak teachers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F

from teddy.config.errors import StageFailed
from teddy.pool.schedule import Recipe
from teddy.runtime import metrics
from teddy.runtime.resume import save_tensors
from teddy.runtime.seeding import seed_torch


class TeacherTraining(L.LightningModule):
    """Cross-entropy training with SGD; the batch is ``(normalised images, labels, indices)``.

    Args:
        seed: of what the network draws itself, such as dropout.
        first_epoch: full epochs that were done before this process began.

    Attributes:
        last_loss: of the last batch, on its device; None before the first.
    """

    def __init__(self, network: nn.Module, recipe: Recipe, seed: int = 0, first_epoch: int = 0) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.seed = seed
        self.first_epoch = first_epoch
        self.last_loss: torch.Tensor | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with momentum and weight decay on all parameters, as torchvision's reference training."""
        recipe = self.recipe
        return torch.optim.SGD(self.network.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)

    def on_train_epoch_start(self) -> None:
        """Sets the epoch's learning rate: a pure function of the epoch, so a resumed run needs no scheduler state."""
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = self.recipe.lr_at(self.first_epoch + self.current_epoch)

    def training_step(self, batch: Sequence[torch.Tensor], batch_idx: int) -> torch.Tensor:
        """One batch's mean cross-entropy.

        One in ``log_every_n_steps`` goes to the logger from here: Lightning's own ``self.log`` keeps books in every step, which
        costs several percent of a small network's.
        """
        seed_torch(self.seed, "teacher", self.first_epoch + self.current_epoch, batch_idx)
        images, labels, *_ = batch
        loss = F.cross_entropy(self.network(images.contiguous(memory_format=torch.channels_last)), labels)
        self.last_loss = loss.detach()
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if (self.global_step + 1) % every == 0 and self.logger is not None:
            self.logger.log_metrics({metrics.POOL_LOSS: self.last_loss.item()}, step=self.global_step)
        return loss


class SnapshotPool(L.Callback):
    """Keeps the network's weights after the epochs that the pool may need, with their accuracies.

    Args:
        folder: where ``epoch-0007.safetensors`` and its like go.
        epochs: full epochs after which to keep the weights, counted from 1.
        measure: gives the accuracies to note for a snapshot.
        records: the notes of earlier snapshots, when training is resumed.
        seconds: of training in earlier runs, when training is resumed.

    Attributes:
        seconds: of training up to the last full epoch, without the time that measuring took.
    """

    def __init__(
        self,
        folder: Path,
        epochs: Sequence[int],
        measure: Callable[[nn.Module], dict[str, float]],
        records: Sequence[dict[str, Any]] = (),
        seconds: float = 0.0,
    ) -> None:
        self.folder = folder
        self.epochs = set(epochs)
        self.measure = measure
        self.records = list(records)
        self.seconds = seconds
        self._since = time.monotonic()

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Starts the clock of the epoch."""
        self._since = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Writes the snapshot of an epoch that is wanted.

        Raises:
            StageFailed: the loss is no longer a number, so that no later epoch can be of use.
        """
        assert isinstance(module, TeacherTraining)
        epoch = module.first_epoch + trainer.current_epoch + 1
        # Reading the loss waits for the device, so that the epoch's time is the whole.
        loss = 0.0 if module.last_loss is None else module.last_loss.item()
        self.seconds += time.monotonic() - self._since
        if not math.isfinite(loss):
            raise StageFailed(
                f"teacher training diverged in epoch {epoch} (loss {loss}); lower pool.training.lr={module.recipe.lr}."
            )
        if epoch not in self.epochs:
            return
        name = f"epoch-{epoch:04d}.safetensors"
        save_tensors(self.folder / name, module.network.state_dict(), {"epoch": epoch})
        record: dict[str, Any] = {
            "epoch": epoch,
            "file": name,
            "seconds": round(self.seconds, 2),
            **self.measure(module.network),
        }
        self.records.append(record)
        if trainer.logger is not None:
            named = {metrics.POOL_TOP1_HOLDOUT: record["top1_holdout"], metrics.POOL_TOP1_TEST: record["top1_test"]}
            trainer.logger.log_metrics({**named, metrics.POOL_EPOCH: epoch}, step=trainer.global_step)
