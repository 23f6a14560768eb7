"""Where a student's targets come from: the pool asked now, a file of its answers, or the class indices.

A source knows which loss belongs to its targets, so a student never asks which kind it has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from teddy.config.errors import BadInput
from teddy.labels.losses import hard_label_ce, soft_label_kl
from teddy.labels.packing import Packing
from teddy.labels.views import Views

MakesViews = Callable[[int, torch.Tensor], Views]


class LabelSource(ABC):
    """Targets for views, and the loss that compares a student with them.

    A student's epoch is the same for every source::

        epoch = source.view_epoch(trainer_epoch)
        source.begin_epoch(epoch, view_maker, num_images)  # once, for all students that train together
        for indices in batches:
            views = view_maker(epoch, indices)
            loss = source.loss(student(views.images), source.targets(epoch, indices, views))
        source.end_epoch()
    """

    def view_epoch(self, epoch: int) -> int:
        """The epoch whose views a student shall see in its ``epoch``."""
        return epoch

    def begin_epoch(self, epoch: int, views: MakesViews, num_images: int) -> None:  # noqa: B027 - no duty
        """Gets ready what all batches of a view epoch need; nothing, where targets are looked up."""

    def end_epoch(self) -> None:  # noqa: B027
        """Lets go of what :meth:`begin_epoch` got ready."""

    @abstractmethod
    def targets(self, epoch: int, indices: torch.Tensor, views: Views) -> torch.Tensor:
        """Targets, float32 (B, classes) on the views' device, for the ``views`` of the images ``indices``."""

    @abstractmethod
    def loss(self, student_logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The scalar that the student minimises, float32."""


class SoftLabels(LabelSource):
    """Teachers' logits as targets, compared by KL divergence at ``temperature``."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def loss(self, student_logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return soft_label_kl(student_logits, targets, self.temperature)


class OnlineLabels(SoftLabels):
    """Asks the teachers while students train: no disk, at the price of the teachers' forward passes once per epoch.

    A view is a pure function of (seed, epoch, image), so at the beginning of an epoch the views of all N images are labelled,
    in chunks that no student's order or batch size changes; every student picks its rows. Float32 (N, classes) on the views'
    device are held until the epoch ends.

    Args:
        labeller: maps normalised images (B, C, H, W) to logits (B, classes).
        batch_size: views that are made and labelled at once.
    """

    def __init__(
        self, labeller: Callable[[torch.Tensor], torch.Tensor], temperature: float, batch_size: int = 256
    ) -> None:
        super().__init__(temperature)
        self.labeller, self.batch_size = labeller, batch_size
        self._logits = torch.empty(0)

    def begin_epoch(self, epoch: int, views: MakesViews, num_images: int) -> None:
        chunks = torch.arange(num_images).split(self.batch_size)
        self._logits = torch.cat([self.labeller(views(epoch, indices).images) for indices in chunks])

    def end_epoch(self) -> None:
        self._logits = torch.empty(0)

    def targets(self, epoch: int, indices: torch.Tensor, views: Views) -> torch.Tensor:
        return self._logits[indices.to(self._logits.device, non_blocking=True)]


class StoredLabels(SoftLabels):
    """Reads labels that ``teddy.labels.store`` wrote; a student that trains longer starts over.

    Args:
        path: ``logits.npy``, (epochs, N, ...); mapped, not read into memory.
        num_samples: N, the number of distilled images.
        packing: the form in which the labels were written.

    Raises:
        BadInput: the file is missing, cut off, or is not about this distilled set.
    """

    def __init__(self, path: Path, num_samples: int, packing: Packing, temperature: float) -> None:
        super().__init__(temperature)
        self.packing = packing
        try:
            # Stricter than np.load: nothing but a plain array is ever read, and objects are refused.
            self.entries = np.lib.format.open_memmap(path, mode="r")
        except (OSError, ValueError) as error:
            raise BadInput(
                f"{path} is not a whole file of labels ({error}); delete the folder {path.parent} and run again."
            ) from error
        shape, kind = self.entries.shape, self.entries.dtype
        wanted = (num_samples, *packing.entry.shape)
        if len(shape) < 2 or shape[0] < 1 or shape[1:] != wanted or kind != packing.entry.base:
            raise BadInput(
                f"{path} holds {kind} labels of shape {shape}, but this distilled set needs {packing.entry.base} of shape"
                f" (epochs, {', '.join(map(str, wanted))}); delete the folder {path.parent} and run again."
            )

    @property
    def epochs(self) -> int:
        """How many epochs of views are labelled."""
        return int(self.entries.shape[0])

    def view_epoch(self, epoch: int) -> int:
        return epoch % self.epochs

    def targets(self, epoch: int, indices: torch.Tensor, views: Views) -> torch.Tensor:
        entries = np.asarray(self.entries[self.view_epoch(epoch)][indices.cpu().numpy()])
        return self.packing.unpack(entries, views.images.device)


class HardLabels(LabelSource):
    """The class indices of the images, mixed as their views were: ``keep * own + (1 - keep) * partner``.

    Args:
        labels: class of each distilled image, int64 (N,).
    """

    def __init__(self, labels: torch.Tensor, num_classes: int) -> None:
        self.labels = labels
        self.num_classes = num_classes

    def targets(self, epoch: int, indices: torch.Tensor, views: Views) -> torch.Tensor:
        own, partner = (
            F.one_hot(self.labels[which.to(self.labels.device, non_blocking=True)], self.num_classes).to(views.keep)
            for which in (indices, views.partner)
        )
        keep = views.keep[:, None]
        return keep * own + (1 - keep) * partner

    def loss(self, student_logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return hard_label_ce(student_logits, targets)
