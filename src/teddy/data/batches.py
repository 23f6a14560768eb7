"""Whole batches in a seeded order: who is in which batch (``EpochOrder``) and what a batch holds
(``Batches``).

The sampler hands over one key per batch, ``(epoch, indices)``, and the data set answers with the whole batch.
So in-memory images are gathered by one indexing operation, a worker process knows the epoch, and order and
crops depend on nothing but the seed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from teddy.data.augment import Augmentation
from teddy.data.images import DecodedImages, ImageSet, TensorImages
from teddy.runtime.seeding import uniform

Key = tuple[int, torch.Tensor]
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class EpochOrder(Sampler[Key]):
    """Batches of indices in an order that is new in each epoch and the same whenever the epoch is run again.

    With several processes each takes every ``replicas``-th index of a batch, so the union is what one process
    would see, less the few images of the last batch that cannot be dealt out evenly.
    """

    def __init__(
        self,
        indices: np.ndarray,
        batch_size: int,
        seed: int,
        first_epoch: int = 0,
        rank: int = 0,
        replicas: int = 1,
    ) -> None:
        """Takes the indices (N,) to visit and the batch size over all processes."""
        self.indices, self.batch_size, self.seed, self.first_epoch = indices, batch_size, seed, first_epoch
        self.rank, self.replicas = rank, replicas
        self.epoch = first_epoch

    def set_epoch(self, epoch: int) -> None:
        """The Trainer tells its current epoch, counted from its own start."""
        self.epoch = self.first_epoch + epoch

    def __len__(self) -> int:
        return len(list(self._bounds()))

    def __iter__(self) -> Iterator[Key]:
        draws = uniform(self.seed, "order", self.epoch, samples=self.indices)[:, 0]
        order = torch.from_numpy(self.indices[np.argsort(draws, kind="stable")])
        for start, stop in self._bounds():
            yield self.epoch, order[start:stop][self.rank :: self.replicas]

    def _bounds(self) -> Iterator[tuple[int, int]]:
        for start in range(0, len(self.indices), self.batch_size):
            share = min(self.batch_size, len(self.indices) - start) // self.replicas
            if share >= 2:  # BatchNorm cannot train on a single image
                yield start, start + share * self.replicas


class InOrder(Sampler[Key]):
    """Batches of indices in their given order; with several processes each goes through every ``replicas``-th
    index.
    """

    def __init__(self, indices: np.ndarray, batch_size: int, rank: int = 0, replicas: int = 1) -> None:
        self.chunks = torch.from_numpy(indices[rank::replicas]).split(batch_size) if len(indices) > rank else ()

    def __len__(self) -> int:
        return len(self.chunks)

    def __iter__(self) -> Iterator[Key]:
        for chunk in self.chunks:
            yield 0, chunk


class Batches(Dataset[Batch]):
    """Answers a key ``(epoch, indices)`` with ``(images uint8 (n, C, H, W), labels (n,), indices (n,))``.

    ``augmentation`` is given only for training from encoded images: its random crop needs what the evaluation
    geometry cuts off.
    """

    def __init__(self, images: ImageSet, augmentation: Augmentation | None = None, seed: int = 0) -> None:
        self.images, self.augmentation, self.seed = images, augmentation, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> Batch:
        epoch, indices = key
        if self.augmentation is not None and isinstance(self.images, DecodedImages):
            pixels = self.augmentation.crop_decoded(self.images, indices, self.seed, epoch)
        else:
            pixels = self.images.take(indices)
        return pixels, self.images.labels[indices], indices


def load_batches(
    images: ImageSet, order: Sampler[Key], workers: int, augmentation: Augmentation | None = None, seed: int = 0
) -> DataLoader[Batch]:
    """A loader of whole batches; images in memory need no workers, as slicing is faster than sending the slices."""
    workers = 0 if isinstance(images, TensorImages) else workers
    return DataLoader(
        Batches(images, augmentation, seed),
        sampler=order,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def test_batches(images: ImageSet, workers: int, batch_size: int = 500) -> DataLoader[Batch]:
    """All images in their order, uint8 (n, C, H, W) with labels (n,)."""
    return load_batches(images, InOrder(np.arange(len(images)), batch_size), workers)
