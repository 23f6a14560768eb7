"""The real training data as a LightningDataModule: training and held-out batches, ready on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from teddy.data.augment import Augmentation
from teddy.data.batches import Batch, EpochOrder, eval_batches, load_batches
from teddy.data.dsa import dsa
from teddy.data.images import DecodedImages, ImageSet
from teddy.data.imbalance import first_of_each_class
from teddy.data.spec import DatasetSpec
from teddy.runtime.seeding import permutation, uniform


def stratified_split(labels: torch.Tensor, holdout: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split a training set into images to train on and images to validate on.

    The seed chooses the share ``holdout``, from 0 to below 1, of each class to be held out (at least one image, never the last).
    Both parts are sorted indices.
    """
    classes = labels.numpy()
    draws = uniform(seed, "holdout", samples=np.arange(len(classes)))[:, 0]
    held = np.zeros(len(classes), dtype=bool)
    for index in np.unique(classes) if holdout > 0 else ():
        members = np.flatnonzero(classes == index)
        count = min(max(1, round(holdout * len(members))), len(members) - 1)
        held[members[np.argsort(draws[members], kind="stable")[:count]]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def process_share(trainer: L.Trainer | None) -> tuple[int, int]:
    """Index of this process and number of processes in a fit; (0, 1) outside of one."""
    return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)


class RealData(L.LightningDataModule):
    """Batches ``(images, labels, indices)`` of a real dataset; images arrive normalised, and augmented for training.

    ``indices`` count in the full training set and stay on the CPU. Batches are dealt to the processes here, so the
    Trainer needs ``use_distributed_sampler=False``. The batch size is that over all; ``first_epoch`` is added to the Trainer's
    where another run stopped. Which images are held out for validation may have a seed of its own. With ``few_shot``, training
    has at most so many images of each class, drawn by ``seed``.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        train: ImageSet,
        augment: Augmentation,
        holdout: float,
        batch_size: int,
        seed: int,
        workers: int = 0,
        first_epoch: int = 0,
        holdout_seed: int | None = None,
        few_shot: int | None = None,
    ) -> None:
        super().__init__()
        self.spec, self.train, self.augment = spec, train, augment
        self.batch_size, self.seed, self.workers, self.first_epoch = batch_size, seed, workers, first_epoch
        split_seed = seed if holdout_seed is None else holdout_seed
        self.train_indices, self.held_indices = stratified_split(train.labels, holdout, split_seed)
        if few_shot is not None:
            order = self.train_indices[permutation(len(self.train_indices), seed, "few-shot")]
            self.train_indices = first_of_each_class(train.labels, torch.from_numpy(order), few_shot).numpy()
        self._crops_when_decoding = augment.crop == "resized" and isinstance(train, DecodedImages)

    def train_dataloader(self) -> DataLoader[Batch]:
        order = EpochOrder(
            self.train_indices, self.batch_size, self.seed, self.first_epoch, *process_share(self.trainer)
        )
        return self._augmentable(order, self.seed)

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        if len(self.held_indices) == 0:
            return []
        return eval_batches(self.train, self.workers, self.held_indices, *process_share(self.trainer))

    def augmented_batches(self, count: int, batch_size: int, seed: int, device: torch.device) -> Iterator[torch.Tensor]:
        """Yield ``count`` different training images outside of a fit, augmented and normalised, in batches (n, C, H, W)."""
        for batch in self._augmentable(EpochOrder(self.train_indices, batch_size, seed), seed):
            images, _, indices = (part[:count] for part in batch)
            if len(images) < 2:  # BatchNorm cannot train on a single image
                return
            yield self._prepare(images.to(device), indices, seed, 0)
            count -= len(images)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move images and labels; the indices stay, because random numbers are drawn on the CPU."""
        images, labels, indices = batch
        return images.to(device, non_blocking=True), labels.to(device, non_blocking=True), indices

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment training batches, and normalise all batches to float32."""
        images, labels, indices = batch
        if self.trainer is None or not self.trainer.training:
            return self.spec.normalise(images), labels, indices
        epoch = self.first_epoch + self.trainer.current_epoch
        return self._prepare(images, indices, self.seed, epoch), labels, indices

    def _augmentable(self, order: EpochOrder, seed: int) -> DataLoader[Batch]:
        return load_batches(self.train, order, self.workers, self.augment if self._crops_when_decoding else None, seed)

    def _prepare(self, images: torch.Tensor, indices: torch.Tensor, seed: int, epoch: int) -> torch.Tensor:
        cropped = self.augment.apply(images, indices, seed, epoch, cropped=self._crops_when_decoding)
        views = self.spec.normalise(cropped)
        if self.augment.dsa == "none":
            return views
        return dsa(views, seed, "augment", "dsa", epoch, int(indices[0]), strategy=self.augment.dsa)
