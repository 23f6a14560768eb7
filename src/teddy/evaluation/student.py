"""The training of one student on views of the distilled images, epoch by epoch."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Protocol as Interface

import torch
from lightning.pytorch.loggers import Logger
from torch import nn

from teddy.config.errors import StageFailed
from teddy.data.spec import DatasetSpec
from teddy.evaluation.dsa import dsa
from teddy.evaluation.protocol import Protocol
from teddy.labels.sources import LabelSource
from teddy.labels.views import Views
from teddy.runtime import metrics, seeding


class ViewSource(Interface):
    """Makes the images that a student sees from the distilled ones."""

    def __call__(self, epoch: int, indices: torch.Tensor) -> Views:
        """Views of the images ``indices`` (B,) in ``epoch``."""
        ...


class DsaViews:
    """Distilled images under differentiable Siamese augmentation, the DC family's.

    Args:
        images: exported 8-bit images, uint8 (N, C, H, W), on the student's device.
    """

    def __init__(self, images: torch.Tensor, spec: DatasetSpec, seed: int) -> None:
        self.images, self.spec, self.seed = images, spec, seed

    def __call__(self, epoch: int, indices: torch.Tensor) -> Views:
        """Augmented views; each image keeps its own label."""
        picked = self.spec.normalise(self.images[indices.to(self.images.device, non_blocking=True)])
        # One operation per batch, as the DC family draws it; a batch is known by its first image.
        views = dsa(picked, self.seed, "dsa", epoch, int(indices[0]))
        return Views(
            views, indices.to(picked.device, non_blocking=True), torch.ones(len(indices), device=picked.device)
        )


class StudentTraining:
    """Trains ``network`` from scratch; the loss belongs to the label source (soft: KL at temperature T).

    An epoch is a pure function of the network, the optimizer, the seed and the epoch: which students train in the same fit, and
    in which order they take their turns, changes no bit of it.

    Args:
        views: the images, made anew in each epoch.
        source: their targets; the epoch must have been begun there.
        num_images: N, the size of the distilled set.
        seed: of the order of the images and of what the network draws itself, such as dropout.
        name: tells the student from others, for people.
        done: epochs of training behind ``network``.
        autocast: opens the context of the network's forward pass.
        logger: takes the loss of every ``log_every``-th step, counted over all epochs.
    """

    def __init__(
        self,
        network: nn.Module,
        views: ViewSource,
        source: LabelSource,
        protocol: Protocol,
        num_images: int,
        seed: int,
        *,
        name: str = "a student",
        done: int = 0,
        autocast: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
        logger: Logger | None = None,
        log_every: int = 50,
    ) -> None:
        self.network = network
        self.views, self.source, self.protocol = views, source, protocol
        self.num_images, self.seed, self.name, self.done = num_images, seed, name, done
        self.autocast, self.logger, self.log_every = autocast, logger, log_every

    def train_epoch(self, optimizer: torch.optim.Optimizer) -> float:
        """Trains the next epoch; the learning rate and the order of the images follow from seed and epoch.

        The device is waited for when a loss is logged and at the end, nowhere else.

        Returns:
            The last batch's loss.

        Raises:
            StageFailed: that loss is not finite.
        """
        epoch, size = self.done, self.protocol.batch_size
        steps = batches_per_epoch(self.num_images, size)
        for group in optimizer.param_groups:
            group["lr"] = self.protocol.lr_at(epoch)
        order = torch.from_numpy(seeding.permutation(self.num_images, self.seed, "student order", epoch))
        for batch in range(steps):
            loss = self._loss(epoch, batch, order[batch * size : (batch + 1) * size])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step = epoch * steps + batch
            if self.logger is not None and (step + 1) % self.log_every == 0:
                self.logger.log_metrics({metrics.EVALUATION_LOSS: float(loss.detach())}, step)
        optimizer.zero_grad()  # while others have their turn, their gradients may lie in the same memory
        last = float(loss.detach())
        if not math.isfinite(last):
            raise StageFailed(
                f"{self.name} diverged (loss {last}); lower the learning rate of its protocol, {self.protocol.lr}."
            )
        self.done += 1
        return last

    def _loss(self, epoch: int, batch: int, indices: torch.Tensor) -> torch.Tensor:
        seeding.seed_torch(self.seed, "student", epoch, batch)
        view_epoch = self.source.view_epoch(epoch)
        views = self.views(view_epoch, indices)
        targets = self.source.targets(view_epoch, indices, views)
        with self.autocast():
            logits = self.network(views.images.contiguous(memory_format=torch.channels_last))
        return self.source.loss(logits.float(), targets)


def batches_per_epoch(num_images: int, batch_size: int) -> int:
    """Batches of an epoch; a last batch of one image is left out, because BatchNorm cannot train on it."""
    whole, rest = divmod(num_images, batch_size)
    return whole + (rest > 1)
