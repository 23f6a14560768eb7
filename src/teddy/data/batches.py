"""Whole batches of labelled images in a seeded order.

The sampler (``EpochOrder``) hands over one key per batch, ``(epoch, indices)``, and the data set (``Batches``) answers with the
whole batch: images in memory are gathered by one indexing operation, and a worker process knows the epoch.
"""

from __future__ import annotations

import itertools
import math
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from teddy.config.errors import UserError
from teddy.data.augment import Augmentation
from teddy.data.images import DecodedImages, ImageSet, TensorImages
from teddy.runtime.seeding import uniform

Key = tuple[int, torch.Tensor]
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
EVAL_BATCH = 500
LOADER_SECONDS = 5
"""How long a loader process lives after SIGTERM, at most."""


@dataclass(eq=False)
class EpochOrder(Sampler[Key]):
    """Batches of indices in an order that is new in each epoch and reproducible.

    Of several processes each takes every ``replicas``-th index of a batch: together they see what one process would see, less
    the few images of the last batch that cannot be dealt out evenly. Orders of different purposes are independent.
    """

    indices: np.ndarray
    batch_size: int
    seed: int
    first_epoch: int = 0
    rank: int = 0
    replicas: int = 1
    purpose: str = "order"

    def __post_init__(self) -> None:
        self.epoch = self.first_epoch
        if not len(self):
            raise UserError(
                f"batches of {self.batch_size} of {len(self.indices)} images leave each of {self.replicas} processes fewer than "
                "two; raise the batch size (pool.training.batch_size, evaluation.batch_size) or use fewer devices."
            )

    def set_epoch(self, epoch: int) -> None:
        """Take the Trainer's current epoch, which counts from its own start."""
        self.epoch = self.first_epoch + epoch

    def __len__(self) -> int:
        return len(list(self._bounds()))

    def __iter__(self) -> Iterator[Key]:
        draws = uniform(self.seed, self.purpose, self.epoch, samples=self.indices)[:, 0]
        order = torch.from_numpy(self.indices[np.argsort(draws, kind="stable")])
        for start, stop in self._bounds():
            yield self.epoch, order[start:stop][self.rank :: self.replicas]

    def _bounds(self) -> Iterator[tuple[int, int]]:
        for start in range(0, len(self.indices), self.batch_size):
            share = min(self.batch_size, len(self.indices) - start) // self.replicas
            if share >= 2:  # BatchNorm cannot train on a single image
                yield start, start + share * self.replicas


def in_order(indices: np.ndarray, batch_size: int, rank: int = 0, replicas: int = 1) -> list[Key]:
    """Batches of indices in their given order.

    Of several processes each takes every ``replicas``-th index, in equally many batches, because DistributedDataParallel
    synchronises buffers in each.
    """
    mine = torch.from_numpy(indices[rank::replicas])
    count = max(1, math.ceil(len(indices) / replicas / batch_size))
    return [(0, batch) for batch in (mine.split(batch_size) if replicas == 1 else mine.tensor_split(count))]


class Batches(Dataset[Batch]):
    """Batches ``(images uint8 (n, C, H, W), labels (n,), indices (n,))`` by keys ``(epoch, indices)``.

    Encoded images get an augmentation in training, as a random crop needs what the evaluation geometry cuts off.
    """

    def __init__(self, images: ImageSet, augmentation: Augmentation | None = None, seed: int = 0) -> None:
        self.images, self.augmentation, self.seed = images, augmentation, seed

    def __getitem__(self, key: Key) -> Batch:
        epoch, indices = key
        if self.augmentation is not None and isinstance(self.images, DecodedImages):
            pixels = self.augmentation.crop_decoded(self.images, indices, self.seed, epoch)
        else:
            pixels = self.images.take(indices)
        return pixels, self.images.labels[indices], indices


def load_batches(
    images: ImageSet,
    order: Sampler[Key] | Sequence[Key],
    workers: int,
    augmentation: Augmentation | None = None,
    seed: int = 0,
) -> DataLoader[Batch]:
    """Load whole batches; images in memory need no workers, as slicing is faster than sending the slices."""
    workers = 0 if isinstance(images, TensorImages) else workers
    return DataLoader(
        Batches(images, augmentation, seed),
        sampler=order,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_outlive,
    )


def _outlive(worker: int) -> None:
    """Let a loader process work for some seconds after SIGTERM, which a scheduler sends to all processes of a run at once:
    torch reports a crash if a loader ends before the run does.
    """
    sys.excepthook = lambda *error: None  # the thread that hands over tensors fails, and nobody wants them any more
    signal.signal(signal.SIGALRM, lambda number, frame: os._exit(0))
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(LOADER_SECONDS))


def eval_batches(
    images: ImageSet, workers: int, indices: np.ndarray | None = None, rank: int = 0, replicas: int = 1
) -> DataLoader[Batch]:
    """Load images in their order, all or those at ``indices``; each of ``replicas`` processes loads a share of each batch."""
    chosen = np.arange(len(images)) if indices is None else indices
    return load_batches(images, in_order(chosen, EVAL_BATCH, rank, replicas), workers)


def class_batches(
    images: ImageSet, members: Sequence[torch.Tensor], workers: int
) -> Iterator[tuple[int, Iterator[Batch]]]:
    """Yield each class with the batches of its ``members``, which must be used up before the next class is asked for."""
    keys = [(0, part) for own in members for part in own.split(EVAL_BATCH)]
    return itertools.groupby(load_batches(images, keys, workers), key=lambda batch: int(batch[1][0]))
