"""The LightningModule that teachers and students share: a network, and its top-1 accuracy on real images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

VAL_TOP1 = "val/top1"
TEST_TOP1 = "test/top1"
TEST_MACRO_F1 = "test/macro_f1"
TEST_LOSS = "test/loss"


class Classifier(L.LightningModule):
    """A network with its accuracy on held-out images (``val/top1``), and with that, its F1 score and its loss on test images.

    A batch is ``(normalised images (n, C, H, W), labels (n,), ...)``. A subclass adds ``training_step`` and
    ``configure_optimizers``; without them the module serves ``Trainer.validate`` and ``Trainer.test``.
    """

    score: ClassVar[str] = VAL_TOP1  # name of the value in percent by which snapshots are known

    def __init__(self, network: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.network = network
        # In percent; checking their arguments would wait for the device at each batch.
        self.accuracy = 100 * MulticlassAccuracy(num_classes, average="micro", validate_args=False)
        self.f1 = 100 * MulticlassF1Score(num_classes, average="macro", validate_args=False)

    @property
    def lr(self) -> float:
        """The learning rate of the current step."""
        return float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes)."""
        return self.network(images.contiguous(memory_format=torch.channels_last))

    def validation_step(self, batch: Sequence[torch.Tensor], batch_idx: int) -> None:
        self.accuracy.update(self(batch[0]), batch[1])
        self.log(VAL_TOP1, self.accuracy)

    def test_step(self, batch: Sequence[torch.Tensor], batch_idx: int) -> None:
        logits = self(batch[0])
        for name, metric in ((TEST_TOP1, self.accuracy), (TEST_MACRO_F1, self.f1)):
            metric.update(logits, batch[1])
            self.log(name, metric)
        loss = F.cross_entropy(logits.float(), batch[1])
        self.log(TEST_LOSS, loss, on_step=False, on_epoch=True, batch_size=len(batch[1]), sync_dist=True)
