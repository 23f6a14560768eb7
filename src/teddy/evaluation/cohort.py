"""The Lightning module in which students of the same images, protocol and labels train side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from torch import nn

from teddy.evaluation.clock import SharedClock
from teddy.evaluation.student import StudentTraining
from teddy.labels.sources import LabelSource
from teddy.runtime.precision import Compute
from teddy.runtime.progress import StageProgress
from teddy.runtime.resume import TrainingPoint


class Cohort(L.LightningModule):
    """Students in lockstep by epoch: in each epoch every one of them has its turn, on labels that are made once for all.

    A training step of the Trainer is a turn, one student's whole epoch, so that Lightning's bookkeeping is not paid per batch.
    Students that are ahead, because a killed run saved them later than the others, wait until those have caught up.

    Args:
        students: with the same views, protocol and number of images.
        source: their labels.
        clock: takes the time of each student, in the same order.
    """

    def __init__(self, students: Sequence[StudentTraining], source: LabelSource, clock: SharedClock) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.networks = nn.ModuleList(student.network for student in students)
        self.students, self.source, self.clock = list(students), source, clock
        self.first_epoch = min(student.done for student in students)
        self.active: list[int] = []
        """Places of the students that train in this epoch."""
        self.last_loss = float("nan")

    @staticmethod
    def arithmetic(compute: Compute) -> Compute:
        """What the Trainer must be made with.

        A student opens its autocast for each forward pass; one around a whole turn would use the copies of weights that it keeps
        after the optimizer has changed them.
        """
        return replace(compute, precision="float32")

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One optimizer per student, as the protocol says."""
        return [student.protocol.make_optimizer(student.network) for student in self.students]

    def train_dataloader(self) -> range:
        """The students' turns in an epoch."""
        return range(len(self.students))

    def on_train_epoch_start(self) -> None:
        """Has the epoch's labels made."""
        epoch = self.first_epoch + self.current_epoch
        self.active = [place for place, student in enumerate(self.students) if student.done == epoch]
        first = self.students[0]
        self.source.begin_epoch(self.source.view_epoch(epoch), first.views, first.num_images)
        self.clock.charge(self.active)

    def training_step(self, batch: int, batch_idx: int) -> None:
        """The turn of the student in place ``batch``."""
        if batch in self.active:
            self.last_loss = self.students[batch].train_epoch(self.trainer.optimizers[batch])
            self.clock.charge([batch])

    def on_train_epoch_end(self) -> None:
        """Lets go of the epoch's labels."""
        self.source.end_epoch()


class CohortProgress(L.Callback):
    """Advances the display of all students by one unit for each epoch of each student."""

    def __init__(self, progress: StageProgress, what: str) -> None:
        self._progress, self._what = progress, what

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Counts the epoch for those that trained in it."""
        assert isinstance(module, Cohort)
        self._progress.advance(len(module.active), student=self._what, loss=module.last_loss)


class CohortPoints(L.Callback):
    """Writes a student's point to resume from after an epoch, at most once in ``seconds`` of its own training.

    Args:
        points: where each student's lies, in the cohort's order; restored into the networks already.
    """

    def __init__(self, points: Sequence[TrainingPoint], seconds: float) -> None:
        self._points, self._seconds = points, seconds
        self._written: list[float] = []

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        """Puts the optimizers' states back."""
        for point, optimizer in zip(self._points, trainer.optimizers, strict=True):
            point.restore_optimizer(optimizer)
        self._written = list(module.clock.seconds)

    def on_train_epoch_end(self, trainer: L.Trainer, module: Any) -> None:
        """Writes the points for which it is time."""
        for place in module.active:
            seconds, student = module.clock.seconds[place], module.students[place]
            if seconds - self._written[place] >= self._seconds:
                notes = {"seconds": seconds}
                self._points[place].save(student.network, trainer.optimizers[place], student.done, notes)
                self._written[place] = seconds
