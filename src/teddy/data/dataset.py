"""A real dataset as the configuration names it: its facts, checked against the data, and its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from teddy.artifacts.fingerprint import fingerprint
from teddy.config.errors import UserError
from teddy.data.images import ImageSet, TensorImages, subset
from teddy.data.imbalance import counts_by_long_tail, counts_by_shares, first_of_each_class, subset_of
from teddy.data.sources.base import Loaded, Source
from teddy.data.spec import DatasetSpec
from teddy.data.whitening import check_whitening, zca
from teddy.runtime import seeding

_MEASURED_IMAGES = 10_000


@dataclass(eq=False)
class RealDataset:
    """A real dataset, of which nothing is read before it is needed; facts that are None are read from the data."""

    name: str
    source: Source
    num_classes: int | None = None
    channels: int | None = None
    size: int | None = None
    resize: int | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    class_names: Sequence[str] | None = None
    per_class: int | None = None  # training images of each class, at most; 10 are among 20
    keep: Sequence[float] | None = None  # bounds of the share of training images, drawn for each class (Table 3)
    long_tail: float | None = None  # the first class has so many times the training images of the last
    subset_seed: int = 0  # of keep and long_tail
    zca: float | None = None  # added to the variances in whitening (published: 0.1); None: no whitening

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with the data and with any fact that changes what a network sees."""
        facts: dict[str, Any] = {key: getattr(self, key) for key in ("num_classes", "channels", "size")}
        for key, values in (("mean", self.mean), ("std", self.std)):
            facts[key] = None if values is None else [float(value) for value in values]
        content: dict[str, Any] = {"data": self.source.fingerprint(), "facts": facts, "resize": self.resize}
        if self.per_class is not None:
            content["per_class"] = self.per_class
        if self.keep is not None or self.long_tail is not None:
            content["keep"] = self.keep and [float(share) for share in self.keep]
            content |= {"long_tail": self.long_tail, "subset_seed": self.subset_seed}
        if self.zca is not None:
            content["zca"] = float(self.zca)
        return fingerprint(content)

    @cached_property
    def loaded(self) -> Loaded:
        """The opened source; UserError if the data are missing or unreadable, or are not what the configuration says."""
        loaded = self.source.load()
        found = {"num_classes": len(loaded.class_ids), "channels": loaded.channels, "size": loaded.size}
        for key, value in found.items():
            wanted = getattr(self, key)
            if wanted is not None and wanted != value:
                raise UserError(
                    f"dataset.{key}={wanted}, but the data of {self.name} have {value}; set it to that or to null."
                )
        if self.class_names is not None and len(self.class_names) != found["num_classes"]:
            raise UserError(
                f"dataset.class_names holds {len(self.class_names)} names, but {self.name} has {found['num_classes']} "
                "classes; give one name per class or null."
            )
        for name in (*loaded.class_names, *loaded.class_ids):
            if not name.isprintable() or not 1 <= len(name) <= 100:
                raise UserError(
                    f"the class {name!r} of {self.name} cannot be shown; give it a name of 1 to 100 characters in one line."
                )
        for key, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != found["channels"]:
                raise UserError(f"dataset.{key} needs one number per channel ({found['channels']}), not {len(values)}.")
        if self.resize is not None and isinstance(loaded.train, TensorImages):
            raise UserError(f"dataset.resize has no effect on {self.name}, whose images have one size; set it to null.")
        if self.zca is not None:
            check_whitening(loaded.channels, loaded.size)
        return loaded

    @cached_property
    def spec(self) -> DatasetSpec:
        """The facts, completed from the data where the configuration leaves them open."""
        loaded, mean, std = self.loaded, self.mean, self.std
        if mean is None or std is None:
            measured = measure(loaded.train)
            mean, std = mean or measured[0], std or measured[1]
        spec = DatasetSpec(
            name=self.name,
            num_classes=len(loaded.class_ids),
            channels=loaded.channels,
            size=loaded.size,
            mean=tuple(map(float, mean)),
            std=tuple(map(float, std)),
            class_names=tuple(map(str, self.class_names or loaded.class_names)),
            class_ids=loaded.class_ids,
        )
        if self.zca is None:
            return spec
        chosen = _evenly_spaced(len(self.train))
        return replace(spec, whitening=zca(spec.normalise(self.train.take(chosen)), self.zca))

    @cached_property
    def train(self) -> ImageSet:
        return self.loaded.train if self.chosen is None else subset(self.loaded.train, self.chosen)

    @cached_property
    def chosen(self) -> torch.Tensor | None:
        """Indices of the training images that are used (n,), ascending; None: all."""
        chosen, labels, seed = None, self.loaded.train.labels, self.subset_seed
        if self.per_class is not None:
            order = torch.from_numpy(seeding.permutation(len(labels), 0, "images per class"))
            chosen = first_of_each_class(labels, order, self.per_class)
            labels = labels[chosen]
        counts = torch.bincount(labels).tolist()
        if self.keep is not None:
            kept = subset_of(labels, counts_by_shares(counts, self.keep, seed), seed)
        elif self.long_tail is not None:
            kept = subset_of(labels, counts_by_long_tail(counts, self.long_tail), seed)
        else:
            return chosen
        return kept if chosen is None else chosen[kept]

    @property
    def test(self) -> ImageSet:
        return self.loaded.test


def measure(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel in [0, 1] units, to four digits; of encoded images, 10,000 are measured."""
    count = len(images) if isinstance(images, TensorImages) else _MEASURED_IMAGES
    chosen = _evenly_spaced(len(images), count)
    total, squares, pixels = torch.zeros(1), torch.zeros(1), 0
    for part in np.array_split(chosen, max(1, len(chosen) // 500)):
        values = images.take(part).double() / 255
        total = total + values.sum((0, 2, 3))
        squares = squares + (values**2).sum((0, 2, 3))
        pixels += values[:, 0].numel()
    mean = total / pixels
    std = (squares / pixels - mean**2).clamp(min=1e-8).sqrt()  # above zero, also for images of one colour
    return tuple(round(v, 4) for v in mean.tolist()), tuple(round(v, 4) for v in std.tolist())


def _evenly_spaced(length: int, count: int = _MEASURED_IMAGES) -> np.ndarray:
    return np.linspace(0, length - 1, min(length, count)).astype(np.int64)
