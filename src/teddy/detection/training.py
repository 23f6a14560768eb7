"""Training of detectors, teachers and students alike: the data come with boxes, the loss is theirs, and the score is mAP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import lightning as L
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics.detection import MeanAveragePrecision

from teddy.data.augment import Augmentation
from teddy.data.batches import Batch, in_order, load_batches
from teddy.data.datamodule import RealData, process_share
from teddy.data.distilled import ANNOTATIONS
from teddy.data.images import ImageSet
from teddy.detection.objects import Scenes, objects_of, read_coco
from teddy.evaluation.split import EvalSplit
from teddy.evaluation.stage import Classification, Student
from teddy.evaluation.student import StudentTraining
from teddy.models.classifier import processes_of
from teddy.pool.teacher import TeacherTraining
from teddy.pool.trajectory import BaseTraining
from teddy.runtime.device import DeviceConfig
from teddy.runtime.seeding import uniform
from teddy.synthesis.stage import IMAGES, ImageFolderArtifact, SyntheticImages

VAL_MAP50, TEST_MAP50, TEST_MAP = "val/map50", "test/map50", "test/map"
EVAL_BATCH = 20


class SceneData(RealData):
    """Batches ``(normalised images, targets)`` to train on, mirrored with a probability, and ``(normalised images, objects)``."""

    test: Callable[[], ImageSet]

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.flip = 0.5 * self.augment.flip

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._in_order(self.train, self.held_indices)

    def test_dataloader(self) -> DataLoader[Batch]:
        self.tested = self.test()
        return self._in_order(self.tested, np.arange(len(self.tested)))

    def _in_order(self, images: ImageSet, indices: np.ndarray) -> DataLoader[Batch]:
        return load_batches(images, in_order(indices, EVAL_BATCH, *process_share(self.trainer)), self.workers)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Any:
        assert self.trainer is not None
        images, indices = self.spec.normalise(batch[0]), batch[2]
        objects = [objects_of(self.tested if self.trainer.testing else self.train, index) for index in indices.tolist()]
        if not self.trainer.training:
            return images, objects
        epoch = self.first_epoch + self.trainer.current_epoch
        mirror = uniform(self.seed, "mirror", epoch, samples=indices.numpy())[:, 0] < self.flip
        for place in np.flatnonzero(mirror):
            images[place], objects[place] = images[place].flip(-1), objects[place].mirrored(images.shape[-1])
        return images, [one.target(images.device) for one in objects]


class DetectorSteps(L.LightningModule):
    """What a detector's training adds to the optimizer and schedule of a teacher or a student."""

    score: ClassVar[str] = VAL_MAP50
    network: nn.Module

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.average_precision = MeanAveragePrecision(backend="pycocotools", **processes_of(self))

    def batch_loss(self, batch: Any) -> torch.Tensor:
        return torch.stack(list(self.network(*batch).values())).sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, objects = batch
        detections = [{name: values.cpu() for name, values in one.items()} for one in self.network(images)]
        self.average_precision.update(detections, [one.truth() for one in objects])

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self.log(VAL_MAP50, self._measured()[0])
        super().on_validation_epoch_end()

    def on_test_epoch_end(self) -> None:
        for name, value in zip((TEST_MAP50, TEST_MAP), self._measured(), strict=True):
            self.log(name, value)

    def _measured(self) -> tuple[torch.Tensor, torch.Tensor]:
        """mAP@.5 and COCO's mAP over all images so far, in percent; a set without objects has -100."""
        found = self.average_precision.compute()
        self.average_precision.reset()
        return 100 * found["map_50"], 100 * found["map"]


class DetectorTeacher(DetectorSteps, TeacherTraining):
    """Training of a detector on real images."""


class DetectorStudent(DetectorSteps, StudentTraining):
    """Training of a detector on distilled images."""


@dataclass(frozen=True)
class DetectorBase(BaseTraining):
    """The training of a detector with snapshots, for the pool strategies."""

    data: ClassVar = SceneData
    training: ClassVar = DetectorTeacher


class Detecting(Classification):
    """Students that learn to detect, from images and the annotations beside them."""

    def num_classes(self, images: SyntheticImages) -> int:
        return int(_annotations(images)[1])

    def fit(
        self,
        student: Student,
        network: nn.Module,
        images: SyntheticImages,
        split: EvalSplit,
        device_config: DeviceConfig,
        done: int,
    ) -> tuple[L.LightningDataModule, StudentTraining]:
        objects, classes = _annotations(images)
        protocol, scenes = student.protocol, Scenes(images.images.images, objects)
        where = device_config.workers, done
        data = SceneData(images.spec, scenes, Augmentation(), 0.0, protocol.batch_size, student.seed, *where)
        data.flip, data.test = student.view.flip, split.images
        module = DetectorStudent(network, protocol, student.labels.source().loss, classes, student.seed, done)
        return data, module

    def facts(self, result: Mapping[str, float]) -> dict[str, Any]:
        found = {"top1": round(result[TEST_MAP50], 4), "coco_map": round(result[TEST_MAP], 4)}
        return {"measure": "map50", **found}


def _annotations(images: SyntheticImages) -> Any:
    assert isinstance(images, ImageFolderArtifact)
    return read_coco(images.artifact.file(f"{IMAGES}/{ANNOTATIONS}"))
