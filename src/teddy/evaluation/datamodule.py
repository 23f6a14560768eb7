"""Distilled views with their labels, and the images that a student is tested on, behind one Lightning DataModule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from teddy.data.batches import Batch, EpochOrder, Key, eval_batches
from teddy.data.datamodule import process_share
from teddy.data.images import ImageSet
from teddy.data.spec import DatasetSpec
from teddy.labels.sources import LabelledViews, LabelSource
from teddy.labels.views import ViewSource


class DistilledViews(L.LightningDataModule):
    """Training batches ``(views (n, C, H, W), targets (n, classes))`` and test batches ``(images, labels)``, all normalised.

    The loader yields the indices of a batch; its views and targets are made on the device. Of several processes each loads an
    equal share of every batch, so build the Trainer with ``use_distributed_sampler=False``. The batch size is that over all;
    ``first_epoch`` is added to the Trainer's in a resumed run. ``curve`` opens held-out training images for a curve.
    """

    def __init__(
        self,
        views: ViewSource,
        source: LabelSource,
        batch_size: int,
        seed: int,
        spec: DatasetSpec,
        test: Callable[[], ImageSet],
        first_epoch: int = 0,
        workers: int = 0,
        curve: Callable[[], ImageSet] | None = None,
    ) -> None:
        super().__init__()
        self.curve = curve
        self.views, self.batch_size, self.seed = LabelledViews(views, source), batch_size, seed
        self.spec, self.test, self.first_epoch, self.workers = spec, test, first_epoch, workers

    def train_dataloader(self) -> DataLoader[Key]:
        indices = np.arange(len(self.views.views.images))
        share = process_share(self.trainer)
        order = EpochOrder(indices, self.batch_size, self.seed, self.first_epoch, *share, purpose="student order")
        return DataLoader(_Keys(), sampler=order, batch_size=None)  # type: ignore[arg-type]

    def test_dataloader(self) -> DataLoader[Batch]:
        return eval_batches(self.test(), self.workers, None, *process_share(self.trainer))

    def val_dataloader(self) -> Any:
        return eval_batches(self.curve(), self.workers, None, *process_share(self.trainer)) if self.curve else []

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move test batches; the indices of training batches stay, because random numbers are drawn on the CPU."""
        if self.trainer is None or self.trainer.training:
            return batch
        return [part.to(device, non_blocking=True) for part in batch[:2]]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Make the views of a training batch and look up their targets; normalise test images."""
        if self.trainer is not None and not self.trainer.training:
            return self.spec.normalise(batch[0]), batch[1]
        return self.views(*batch)


class _Keys:
    """A data set in which each key of the sampler is its own item."""

    def __getitem__(self, key: Key) -> Key:
        return key
