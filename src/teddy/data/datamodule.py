"""The real data behind one Lightning DataModule: training, held-out and test batches, ready on the device."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from teddy.config.errors import BadInput
from teddy.data.augment import Augmentation
from teddy.data.batches import Batch, EpochOrder, InOrder, load_batches
from teddy.data.images import DecodedImages, ImageSet
from teddy.data.spec import DatasetSpec
from teddy.runtime.seeding import uniform


def stratified_split(labels: torch.Tensor, holdout: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits a training set into what is trained on and what choosing may use.

    Of each class the share ``holdout`` (rounded; at least one image, but never the last) is held out, chosen
    by the seed.

    Returns:
        Sorted indices of the kept and of the held-out images.

    Raises:
        BadInput: ``holdout`` is not in [0, 1).
    """
    if not 0 <= holdout < 1:
        raise BadInput(f"dataset.holdout={holdout} is no share of the training set; give a number from 0 to below 1.")
    classes = labels.numpy()
    draws = uniform(seed, "holdout", samples=np.arange(len(classes)))[:, 0]
    held = np.zeros(len(classes), dtype=bool)
    for index in np.unique(classes) if holdout > 0 else ():
        members = np.flatnonzero(classes == index)
        count = min(max(1, round(holdout * len(members))), len(members) - 1)
        held[members[np.argsort(draws[members], kind="stable")[:count]]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


class RealData(L.LightningDataModule):
    """Batches ``(images, labels, indices)`` of a real dataset; the images arrive augmented (training only)
    and normalised.

    ``indices`` are places in the full training (or test) set and stay on the CPU. The Trainer must not
    replace the sampler: build it with ``use_distributed_sampler=False``; the batches are dealt to the
    processes here.

    Attributes:
        train_indices: sorted indices of the training images.
        held_indices: sorted indices of the held-out images, which validation uses.
        first_epoch: what to add to the Trainer's epoch, for a run that goes on where another stopped.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        train: ImageSet,
        test: ImageSet,
        augment: Augmentation,
        holdout: float,
        batch_size: int,
        seed: int,
        workers: int = 0,
        first_epoch: int = 0,
        eval_batch_size: int = 500,
    ) -> None:
        """Takes both splits, the training batch size over all processes, and the number of decoding
        processes.
        """
        super().__init__()
        self.spec, self.train, self.test = spec, train, test
        self.augment, self.seed, self.workers = augment, seed, workers
        self.batch_size, self.eval_batch_size, self.first_epoch = batch_size, eval_batch_size, first_epoch
        self.train_indices, self.held_indices = stratified_split(train.labels, holdout, seed)
        self._crops_when_decoding = augment.crop == "resized" and isinstance(train, DecodedImages)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Training batches in the order of (seed, epoch)."""
        rank, replicas = self._place()
        order = EpochOrder(self.train_indices, self.batch_size, self.seed, self.first_epoch, rank, replicas)
        augment = self.augment if self._crops_when_decoding else None
        return load_batches(self.train, order, self.workers, augment, self.seed)

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """The held-out images, or nothing when none are held out."""
        if len(self.held_indices) == 0:
            return []
        return load_batches(self.train, InOrder(self.held_indices, self.eval_batch_size, *self._place()), self.workers)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test images."""
        indices = np.arange(len(self.test))
        return load_batches(self.test, InOrder(indices, self.eval_batch_size, *self._place()), self.workers)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Moves images and labels; the indices stay, because random numbers are drawn on the CPU."""
        images, labels, indices = batch
        return images.to(device, non_blocking=True), labels.to(device, non_blocking=True), indices

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augments training batches, and normalises all of them to float32."""
        images, labels, indices = batch
        if self.trainer is not None and self.trainer.training:
            epoch = self.first_epoch + self.trainer.current_epoch
            images = self.augment.apply(images, indices, self.seed, epoch, cropped=self._crops_when_decoding)
        return self.spec.normalise(images), labels, indices

    def _place(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size
