"""A real dataset as the configuration names it: its facts checked against the data, its images opened when
first needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from teddy.artifacts.fingerprint import fingerprint
from teddy.config.errors import BadInput
from teddy.data.images import ImageSet, TensorImages, subset
from teddy.data.sources.base import Loaded, Source
from teddy.data.spec import DatasetSpec
from teddy.runtime import seeding

_MEASURED_IMAGES = 10_000


class RealDataset:
    """The facts, two splits and identity of a real dataset; nothing is read before it is asked for."""

    def __init__(
        self, name: str, source: Source, facts: dict[str, Any], resize: int | None, per_class: int | None = None
    ) -> None:
        self.name = name
        self.source = source
        self._facts = facts
        self._resize = resize
        self._per_class = per_class

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the data, and with any fact that changes what a network sees; not with names or
        places.
        """
        seen = {key: value for key, value in self._facts.items() if key != "class_names"}
        content = {"data": self.source.fingerprint(), "facts": seen, "resize": self._resize}
        if self._per_class is not None:
            content["per_class"] = self._per_class
        return fingerprint(content)

    @cached_property
    def loaded(self) -> Loaded:
        """The opened source.

        Raises:
            BadInput: the data are missing or unreadable, or are not what the configuration says.
        """
        loaded = self.source.load()
        found = {
            "num_classes": len(loaded.class_ids),
            "channels": loaded.channels,
            "size": loaded.size,
        }
        for key, value in found.items():
            wanted = self._facts[key]
            if wanted is not None and wanted != value:
                raise BadInput(
                    f"dataset.{key}={wanted}, but the data of {self.name} have {value}; set it to that or to null."
                )
        names = self._facts["class_names"]
        if names is not None and len(names) != found["num_classes"]:
            raise BadInput(
                f"dataset.class_names holds {len(names)} names, but {self.name} has {found['num_classes']} "
                "classes; "
                "give one name per class or null."
            )
        for key in ("mean", "std"):
            values = self._facts[key]
            if values is not None and len(values) != found["channels"]:
                raise BadInput(f"dataset.{key} needs one number per channel ({found['channels']}), not {len(values)}.")
        if self._resize is not None and isinstance(loaded.train, TensorImages):
            raise BadInput(f"dataset.resize has no effect on {self.name}, whose images have one size; set it to null.")
        return loaded

    @cached_property
    def spec(self) -> DatasetSpec:
        """The facts, completed from the data where the configuration leaves them open."""
        loaded = self.loaded
        mean, std = self._facts["mean"] or loaded.mean, self._facts["std"] or loaded.std
        if mean is None or std is None:
            measured = measure(loaded.train)
            mean, std = mean or measured[0], std or measured[1]
        return DatasetSpec(
            name=self.name,
            num_classes=len(loaded.class_ids),
            channels=loaded.channels,
            size=loaded.size,
            mean=tuple(mean),
            std=tuple(std),
            class_names=tuple(self._facts["class_names"] or loaded.class_names),
            class_ids=loaded.class_ids,
        )

    @cached_property
    def train(self) -> ImageSet:
        """The training images, or so many of each class as ``per_class`` says."""
        whole = self.loaded.train
        return whole if self._per_class is None else subset(whole, first_of_each_class(whole.labels, self._per_class))

    @property
    def test(self) -> ImageSet:
        """The test images."""
        return self.loaded.test


def open_dataset(
    name: str,
    source: Source,
    num_classes: int | None = None,
    channels: int | None = None,
    size: int | None = None,
    resize: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    class_names: Sequence[str] | None = None,
    per_class: int | None = None,
) -> RealDataset:
    """Names a dataset and what is known about it; a fact that is None is read from the data.

    Args:
        per_class: trains on at most this many images of each class, drawn at random once for all; the test set stays whole.
    """
    facts = {
        "num_classes": num_classes,
        "channels": channels,
        "size": size,
        "mean": None if mean is None else [float(value) for value in mean],
        "std": None if std is None else [float(value) for value in std],
        "class_names": None if class_names is None else [str(value) for value in class_names],
    }
    return RealDataset(name, source, facts, resize, per_class)


def first_of_each_class(labels: torch.Tensor, count: int) -> torch.Tensor:
    """Sorted indices of ``count`` images of each class, or of all where there are fewer, from one fixed random order."""
    order = torch.from_numpy(seeding.permutation(len(labels), 0, "images per class"))
    chosen = [order[labels[order] == label][:count] for label in labels.unique()]
    return torch.cat(chosen).sort().values


def measure(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per-channel mean and standard deviation in [0, 1] units, rounded to four digits.

    Taken over all pixels; where images must be decoded, over at most 10,000 evenly spaced ones.
    """
    count = len(images) if isinstance(images, TensorImages) else min(len(images), _MEASURED_IMAGES)
    chosen = np.linspace(0, len(images) - 1, count).astype(np.int64)
    total, squares, pixels = torch.zeros(1), torch.zeros(1), 0
    for part in np.array_split(chosen, max(1, len(chosen) // 500)):
        values = images.take(part).double() / 255
        total = total + values.sum((0, 2, 3))
        squares = squares + (values**2).sum((0, 2, 3))
        pixels += values[:, 0].numel()
    mean = total / pixels
    # An image set of one colour would otherwise be divided by zero.
    std = (squares / pixels - mean**2).clamp(min=1e-8).sqrt()
    return tuple(round(v, 4) for v in mean.tolist()), tuple(round(v, 4) for v in std.tolist())
