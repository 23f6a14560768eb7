"""Coloured shapes on textured backgrounds: a small set for detectors that is made anew from its seed and needs no file."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch

from teddy.artifacts.fingerprint import fingerprint
from teddy.config.types import Count, Number
from teddy.data.sources.base import Loaded, numbered_ids
from teddy.detection.objects import Objects, Scenes
from teddy.runtime import seeding

VERSION = 1
CLASSES = ("circle", "square", "triangle")
MOST = 3  # objects of an image


@dataclass(frozen=True)
class Shapes:
    """Circles, squares and triangles, one to three in an image, in any colour; ``train`` and ``test`` images."""

    size: Count
    train: Count
    test: Count
    seed: Number

    def check(self) -> None:
        pass  # there are no files

    def fingerprint(self) -> str:
        return fingerprint({"source": "shapes", "version": VERSION, **asdict(self)})

    def load(self) -> Loaded:
        splits = []
        for split, count in (("train", self.train), ("test", self.test)):
            images, objects = zip(*(scene(self.size, self.seed, split, index) for index in range(count)), strict=True)
            splits.append(Scenes(torch.from_numpy(np.stack(images)), objects))
        return Loaded(splits[0], splits[1], CLASSES, numbered_ids(CLASSES), 3, self.size)


def scene(size: int, *keys: seeding.Key) -> tuple[np.ndarray, Objects]:
    """The image that ``keys`` name, uint8 (3, size, size), with the boxes that its shapes just fill; none covers another."""
    draws = np.random.default_rng(seeding.stable_seed("scene", *keys))
    y, x = np.mgrid[:size, :size] + 0.5
    waves = sum(np.sin((x * a + y * b) / size + c) for a, b, c in draws.uniform(-40, 40, (4, 3))) / 4
    grain = draws.normal(0, 12, (3, size, size))
    image = draws.uniform(60, 195, (3, 1, 1)) + draws.uniform(-60, 60, (3, 1, 1)) * waves + grain
    taken, boxes, labels = np.zeros((size, size), bool), [], []
    for label in draws.integers(0, len(CLASSES), draws.integers(1, MOST + 1)):
        radius = draws.uniform(0.07, 0.2) * size
        across, down = draws.uniform(radius, size - radius, 2)
        dx, dy = np.abs(x - across), y - down
        mask = (
            np.hypot(dx, dy) < radius,
            np.maximum(dx, np.abs(dy)) < radius,
            (dy < radius) & (2 * dx < dy + radius),  # the tip is up
        )[label]
        if (mask & taken).any():
            continue
        image[:, mask] = draws.uniform(0, 255, (3, 1))
        taken |= mask
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        labels.append(label)
    objects = Objects(
        torch.tensor(np.array(boxes), dtype=torch.float32), torch.tensor(np.array(labels), dtype=torch.int64)
    )
    return image.round().clip(0, 255).astype(np.uint8), objects
