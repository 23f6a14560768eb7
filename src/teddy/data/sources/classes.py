"""Some classes of a dataset as a dataset of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from teddy.artifacts.fingerprint import fingerprint
from teddy.config.errors import UserError
from teddy.data.dataset import RealDataset
from teddy.data.images import ImageSet, subset
from teddy.data.sources.base import Loaded


@dataclass(frozen=True)
class SomeClasses:
    """The source of the images of some classes (ascending) of a dataset, which are numbered anew from 0."""

    whole: RealDataset
    classes: Sequence[int]

    def check(self) -> None:
        self.whole.source.check()

    def fingerprint(self) -> str:
        return fingerprint({"whole": self.whole.source.fingerprint(), "classes": self.classes})

    def load(self) -> Loaded:
        loaded = self.whole.loaded
        return replace(
            loaded,
            train=of_classes(loaded.train, self.classes),
            test=of_classes(loaded.test, self.classes),
            class_names=tuple(loaded.class_names[index] for index in self.classes),
            class_ids=tuple(loaded.class_ids[index] for index in self.classes),
        )


def of_classes(images: ImageSet, classes: Sequence[int]) -> ImageSet:
    """The images of some classes, whose labels are positions in ``classes``."""
    places = torch.full((int(images.labels.max()) + 1,), -1)
    places[torch.tensor(classes)] = torch.arange(len(classes))
    chosen = subset(images, torch.nonzero(places[images.labels] >= 0).flatten())
    chosen.labels = places[chosen.labels]
    return chosen


def dataset_of_classes(whole: RealDataset, classes: Sequence[int]) -> RealDataset:
    """The dataset that has only some classes of another one, and its normalisation."""
    if whole.zca is not None:
        raise UserError("dataset.zca belongs to all classes together, and some are left out here; set it to null.")
    names = whole.class_names and [whole.class_names[index] for index in classes]
    mean, std = whole.spec.mean, whole.spec.std
    return replace(
        whole, source=SomeClasses(whole, classes), num_classes=len(classes), class_names=names, mean=mean, std=std
    )
