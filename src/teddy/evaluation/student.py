"""The LightningModule of a student's training on views of distilled images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from teddy.evaluation.protocol import Protocol
from teddy.models.classifier import Classifier
from teddy.runtime import metrics, seeding


class StudentTraining(Classifier):
    """Training of a network from scratch by a protocol; a batch is ``(views (n, C, H, W), targets (n, classes))``."""

    def __init__(
        self,
        network: nn.Module,
        protocol: Protocol,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        num_classes: int,
        seed: int,
        first_epoch: int = 0,
    ) -> None:
        super().__init__(network, num_classes)
        self.protocol, self.loss, self.seed, self.first_epoch = protocol, loss, seed, first_epoch
        self.last_loss = torch.zeros(())

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LambdaLR]]:
        """Follow the protocol; the rate is a pure function of the epoch, so a resumed run needs no scheduler state."""
        optimizer = self.protocol.make_optimizer(self.network)
        schedule = LambdaLR(optimizer, lambda epoch: self.protocol.lr_factor(self.first_epoch + epoch))
        return [optimizer], [schedule]

    def training_step(self, batch: Sequence[torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Loss of a batch; it is logged once in ``log_every_n_steps``, because ``self.log`` costs time."""
        seeding.seed_torch(self.seed, "student", self.first_epoch + self.current_epoch, batch_idx)
        loss = self.batch_loss(batch)
        self.last_loss = loss.detach()
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.log_dict({metrics.EVALUATION_LOSS: self.last_loss, metrics.EVALUATION_LR: self.lr})
        return loss

    def batch_loss(self, batch: Sequence[Any]) -> torch.Tensor:
        views, targets = batch
        return self.loss(self(views).float(), targets)
