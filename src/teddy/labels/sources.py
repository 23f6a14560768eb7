"""Label sources: a student's targets from teachers, computed in each epoch or stored, or from class indices.

A source also gives the loss that belongs to its targets, so that a student does not depend on the kind of labels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F

from teddy.labels.views import Views, ViewSource

Labeller = Callable[[torch.Tensor], torch.Tensor]  # maps normalised images (B, C, H, W) to logits (B, classes)


def soft_label_kl(student_logits: torch.Tensor, teacher_logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL divergence of the student's softened prediction from the teachers', mean over the batch, in float32.

    ``1/B * sum_b KL(softmax(t_b / T) || softmax(s_b / T))`` for logits (B, C), without the factor T² of Hinton et al.: AdamW
    divides a constant factor out again, and FKD, which the paper's protocol follows, has none. With SGD the factor would act
    as a learning rate.
    """
    student = F.log_softmax(student_logits.float() / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.float() / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


class LabelSource(ABC):
    """Targets for views, and the loss that compares a student with them."""

    def view_epoch(self, epoch: int) -> int:
        """Epoch of the views that a student sees in its ``epoch``."""
        return epoch

    def begin_epoch(self, epoch: int, views: ViewSource) -> None:  # noqa: B027 - optional
        """Prepare the targets of all views of ``epoch``, on the views' device, before any of them is asked for."""

    @abstractmethod
    def targets(self, indices: torch.Tensor, views: Views) -> torch.Tensor:
        """Targets, float32 (B, classes) on the views' device, for the ``views`` of the images ``indices`` in this epoch."""

    @abstractmethod
    def loss(self, student_logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """What the student minimises, a float32 scalar."""


class LabelledViews:
    """Views of distilled images with their targets: a pure function of epoch and images."""

    def __init__(self, views: ViewSource, source: LabelSource) -> None:
        self.views, self.source = views, source
        self._labelled: int | None = None

    def __call__(self, epoch: int, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The views (B, C, H, W) of the images ``indices`` (B,) in a student's ``epoch``, and their targets (B, classes)."""
        epoch = self.source.view_epoch(epoch)
        if epoch != self._labelled:
            self.source.begin_epoch(epoch, self.views)
            self._labelled = epoch
        views = self.views(epoch, indices)
        return views.images, self.source.targets(indices, views)


def mixed(labels: torch.Tensor, indices: torch.Tensor, views: Views) -> torch.Tensor:
    """Labels (N, classes) of the images ``indices`` (B,), mixed with their partners' in the shares of the views."""
    own, keep = labels[indices.to(labels.device, non_blocking=True)], views.keep[:, None]
    return keep * own + (1 - keep) * labels[views.partner]


class SoftLabels(LabelSource):
    """Teachers' logits as targets, compared by KL divergence at ``temperature``.

    The logits of an epoch, float32 (N, classes), stay on the device until the next epoch begins.
    """

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature
        self._logits = torch.empty(0)

    @abstractmethod
    def logits(self, epoch: int, views: ViewSource) -> torch.Tensor:
        """Logits of all views of ``epoch``, float32 (N, classes)."""

    def begin_epoch(self, epoch: int, views: ViewSource) -> None:
        self._logits = torch.empty(0)  # frees the last epoch's before the new ones are made
        self._logits = self.logits(epoch, views)

    def targets(self, indices: torch.Tensor, views: Views) -> torch.Tensor:
        return self._logits[indices.to(self._logits.device, non_blocking=True)]

    def loss(self, student_logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return soft_label_kl(student_logits, targets, self.temperature)


class OnlineLabels(SoftLabels):
    """Logits that the teachers compute at the beginning of each epoch, in batches that no student's order changes."""

    def __init__(self, labeller: Labeller, temperature: float, batch_size: int = 256) -> None:
        super().__init__(temperature)
        self.labeller, self.batch_size = labeller, batch_size

    def logits(self, epoch: int, views: ViewSource) -> torch.Tensor:
        chunks = torch.arange(len(views.images)).split(self.batch_size)
        return torch.cat([self.labeller(views(epoch, indices).images) for indices in chunks])


class FixedLabels(LabelSource):
    """One soft label for each image without augmentation, mixed as its views were: a baseline for labels of every view."""

    def __init__(self, labeller: Labeller, temperature: float, batch_size: int = 256) -> None:
        self.labeller, self.temperature, self.batch_size = labeller, temperature, batch_size
        self._labels = torch.empty(0)

    def begin_epoch(self, epoch: int, views: ViewSource) -> None:
        if len(self._labels) == 0:
            chunks = views.images.split(self.batch_size)
            # Kept as they would be stored, in float16.
            logits = torch.cat([self.labeller(views.spec.normalise(chunk)).half().float() for chunk in chunks])
            self._labels = (logits / self.temperature).softmax(1)

    def targets(self, indices: torch.Tensor, views: Views) -> torch.Tensor:
        return mixed(self._labels, indices, views)

    def loss(self, student_logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        student = F.log_softmax(student_logits.float() / self.temperature, dim=1)
        return F.kl_div(student, targets, reduction="batchmean")


class HardLabels(LabelSource):
    """The class indices of the images (N,), mixed as their views were: ``keep * own + (1 - keep) * partner``."""

    def __init__(self, labels: torch.Tensor, num_classes: int) -> None:
        self._one_hot = F.one_hot(labels, num_classes).float()

    def targets(self, indices: torch.Tensor, views: Views) -> torch.Tensor:
        if self._one_hot.device != views.keep.device:
            self._one_hot = self._one_hot.to(views.keep.device)
        return mixed(self._one_hot, indices, views)

    def loss(self, student_logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(student_logits.float(), targets)
