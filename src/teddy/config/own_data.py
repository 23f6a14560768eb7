"""Settings for a user's own images, chosen by their number, their size and the number of classes (``+experiment=own_data``).

The preset's YAML file leaves them to the resolver ``${own_data:KEY}``: a key that is typed wins over what is chosen, and below
the configuration all values are plain. The numbers were chosen on held-out training images; see experiments/own_data.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from teddy.config.build import build
from teddy.config.errors import UserError

SIZES = (8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64)
"""Sizes in pixels that images of several sizes are brought to; larger ones take minutes on a CPU."""
MANY = 10_000
"""Training images from which the numbers are those of CIFAR-10's experiments; below, those of the quick start."""
TRAINED = 60_000
"""Images, counted once in each epoch, that teachers of few images are trained on."""


@dataclass(frozen=True)
class Facts:
    """What the choices depend on: training images, classes, and the side of an image in pixels."""

    images: int
    classes: int
    size: int


UNKNOWN = Facts(2000, 10, 32)
"""In place of data that cannot be read; the plan says why, before anything is written."""


def side_of(shapes: Sequence[tuple[int, int]]) -> int:
    """The side to bring images to, from the widths and heights of some.

    It is their own if they are squares of one size, else what most of their shorter sides reach.
    """
    shorter = sorted(min(shape) for shape in shapes)
    if shorter[0] == max(max(shape) for shape in shapes) <= SIZES[-1]:
        return shorter[0]
    median = shorter[(len(shorter) - 1) // 2]
    return max((side for side in SIZES if side <= median), default=SIZES[0])


def choose(facts: Facts, ipc: int) -> dict[str, Any]:
    """Every value that the preset leaves open, by the name that its YAML file has for it."""
    many = facts.images >= MANY
    depth = min(max(round(math.log2(facts.size)) - 2, 2), 5)  # the last layer sees 2 x 2 to 7 x 7 positions
    epochs = 8 if many else min(max(round(TRAINED / facts.images), 10), 60)
    return {
        "network": f"convnet{depth}_w{128 if many else 32}",
        "pool_epochs": epochs,
        "pool_first": 1 if many else epochs // 4,  # after one epoch of few images, a network knows nothing
        "pool_last": epochs // 2 if many else epochs,
        "pool_lr": 0.02 if many else 0.05,
        "pool_batch": 256 if many else 64,
        "block": max(1, min(100, 100 * 64 * 64 // facts.size**2)),  # images; what needs the memory of 100 at 64 pixels
        "shift": max(1, facts.size // 8),
        "classwise_lr": 100.0 if many else 30.0,
        "student_batch": min(max(16, facts.classes * ipc // 4), 256),
    }


def resolve(key: str, *, _root_: Any) -> Any:
    """The value of ``${own_data:KEY}`` in the configuration ``_root_``."""
    if key == "name":
        folder = Path(str(_root_.dataset.root or _root_.dataset.source.get("name") or "")).name
        return "_".join(filter(None, ("own_data", re.sub(r"[^A-Za-z0-9.-]+", "_", folder).strip("_"))))[:100]
    facts = _facts_of(_root_)
    if key == "size":
        return None if facts is None else facts.size
    return choose(facts or UNKNOWN, _root_.synthesis.ipc)[key]


def _facts_of(root: Any) -> Facts | None:
    """The facts of the data that a configuration names; None if they cannot be read."""
    from omegaconf import OmegaConf

    source, own_size = root.dataset.source, OmegaConf.is_interpolation(root.dataset, "size")
    node = {key: source[key] for key in source if not (key == "size" and own_size)}
    if node.get("cache") is not None:  # what decodes does so when the run begins
        node["cache"] = None
    return _read(tuple(node.items()))


@cache
def _read(node: tuple[tuple[str, Any], ...]) -> Facts | None:
    try:
        source = build("dataset.source", dict(node))
        source.check()
        if getattr(source, "size", 0) is None and hasattr(source, "headers"):
            source.size = side_of([shape for _, shape in source.headers])
        loaded = source.load()
    except UserError:
        return None
    return Facts(len(loaded.train), len(loaded.class_ids), loaded.size)
