"""The Lightning module that trains one student on views of the distilled images."""

from __future__ import annotations

import math
from typing import Any
from typing import Protocol as Interface

import lightning as L
import torch
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
        picked = self.spec.normalise(self.images[indices.to(self.images.device)])
        # One operation per batch, as the DC family draws it; a batch is known by its first image.
        views = dsa(picked, self.seed, "dsa", epoch, int(indices[0]))
        return Views(views, indices.to(picked.device), torch.ones(len(indices), device=picked.device))


class StudentTraining(L.LightningModule):
    """Trains ``network`` from scratch; the loss belongs to the label source (soft: KL at temperature T).

    Args:
        views: the images, made anew in each epoch.
        source: their targets.
        num_images: N, the size of the distilled set.
        seed: of the order of the images and of what the network draws itself, such as dropout.
        first_epoch: epochs done before this process began.
    """

    def __init__(
        self,
        network: nn.Module,
        views: ViewSource,
        source: LabelSource,
        protocol: Protocol,
        num_images: int,
        seed: int,
        first_epoch: int = 0,
    ) -> None:
        super().__init__()
        self.network = network
        self.views, self.source, self.protocol = views, source, protocol
        self.num_images, self.seed, self.first_epoch = num_images, seed, first_epoch
        self._order = torch.arange(0)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The protocol's optimizer."""
        return self.protocol.make_optimizer(self.network)

    def train_dataloader(self) -> range:
        """Numbers of the batches of an epoch; the images are on the device already."""
        return range(batches_per_epoch(self.num_images, self.protocol.batch_size))

    def on_train_epoch_start(self) -> None:
        """The epoch's learning rate and order, both pure functions of seed and epoch."""
        epoch = self.first_epoch + self.current_epoch
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.protocol.lr_at(epoch)
        self._order = torch.from_numpy(seeding.permutation(self.num_images, self.seed, "student order", epoch))

    def training_step(self, batch: int, batch_idx: int) -> torch.Tensor:
        """One batch's loss."""
        size = self.protocol.batch_size
        indices = self._order[batch * size : (batch + 1) * size]
        seeding.seed_torch(self.seed, "student", self.first_epoch + self.current_epoch, batch_idx)
        epoch = self.source.view_epoch(self.first_epoch + self.current_epoch)
        with torch.autocast(self.device.type, enabled=False):
            views = self.views(epoch, indices)
            targets = self.source.targets(epoch, indices, views)
        logits = self.network(views.images.contiguous(memory_format=torch.channels_last))
        loss = self.source.loss(logits.float(), targets)
        self.log(metrics.EVALUATION_LOSS, loss)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: int, batch_idx: int) -> None:
        """Refuses, at the end of an epoch and before a callback keeps it, a student whose loss overflowed.

        Raises:
            StageFailed: the epoch's last loss is not finite.
        """
        if not self.trainer.is_last_batch:
            return  # asking for a loss waits for the device
        loss = float(outputs["loss"])
        if not math.isfinite(loss):
            raise StageFailed(
                f"a student diverged (loss {loss}); lower the learning rate of its protocol, {self.protocol.lr}."
            )


def batches_per_epoch(num_images: int, batch_size: int) -> int:
    """Batches of an epoch; a last batch of one image is left out, because BatchNorm cannot train on it."""
    whole, rest = divmod(num_images, batch_size)
    return whole + (rest > 1)
