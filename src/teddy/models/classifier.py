"""The LightningModule that teachers and students share: a network, and its top-1 accuracy on real images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

VAL_TOP1 = "val/top1"
TEST_TOP1 = "test/top1"
TEST_MACRO_F1 = "test/macro_f1"
TEST_LOSS = "test/loss"


class MacroF1(Metric):
    """Mean of the classes' F1 scores in percent, over the images of all processes; of classes that are there or predicted.

    As torchmetrics has it, but without its table of classes x classes for each batch, which is 200 MB with 5,000 classes.
    """

    hits: torch.Tensor
    predicted: torch.Tensor
    actual: torch.Tensor

    def __init__(self, num_classes: int, **options: Any) -> None:
        super().__init__(**options)
        for name in ("hits", "predicted", "actual"):
            self.add_state(name, torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        chosen, classes = logits.argmax(1), len(self.hits)
        self.hits += torch.bincount(labels[chosen == labels], minlength=classes)
        self.predicted += torch.bincount(chosen, minlength=classes)
        self.actual += torch.bincount(labels, minlength=classes)

    def compute(self) -> torch.Tensor:
        total = self.predicted + self.actual
        return 100 * (2 * self.hits / total)[total > 0].mean()


class Classifier(L.LightningModule):
    """A network with its accuracy on held-out images (``val/top1``), and with that, its F1 score and its loss on test images.

    A batch is ``(normalised images (n, C, H, W), labels (n,), ...)``. A subclass adds ``training_step`` and
    ``configure_optimizers``; without them the module serves ``Trainer.validate`` and ``Trainer.test``.
    """

    score: ClassVar[str] = VAL_TOP1  # name of the value in percent by which snapshots are known

    def __init__(self, network: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.network = network
        # In percent; checking its arguments would wait for the device at each batch.
        self.accuracy = 100 * MulticlassAccuracy(
            num_classes, average="micro", validate_args=False, **processes_of(self)
        )
        self.f1 = MacroF1(num_classes, **processes_of(self))
        self._first_bad = torch.tensor(-1)

    def watch(self, loss: torch.Tensor, batch_idx: int) -> None:
        """Remember the first batch whose loss is not finite; nothing waits for the device."""
        self._first_bad = torch.where(
            torch.isfinite(loss.detach()) | (self._first_bad >= 0), self._first_bad, batch_idx
        )

    def trouble(self) -> str:
        """The iteration of the epoch whose loss was not finite first, and the layers that are not finite now, for people."""
        first, names = int(self._first_bad), not_finite(self.network)
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return ", ".join([*([f"iteration {first}"] if first >= 0 else []), *([names[0] + more] if names else [])])

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


def processes_of(module: L.LightningModule) -> dict[str, Any]:
    """Options of a metric that sums over the processes of the module's Trainer, not over those that wait for this one."""
    return {"distributed_available_fn": lambda: module.trainer.world_size > 1}


def not_finite(network: nn.Module) -> list[str]:
    """Names of the weights and statistics that are not finite, in the network's order."""
    return [name for name, tensor in network.state_dict().items() if not torch.isfinite(tensor).all()]
