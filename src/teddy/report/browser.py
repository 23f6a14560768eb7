"""The image browser of the page: classes in rows, methods side by side, from the first snapshot to the exported images."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import torch
from torchvision.transforms.functional import to_pil_image

from teddy.report.comparison import Comparison
from teddy.report.grids import (
    CELL,
    COLUMNS,
    MAX_CLASSES,
    choose,
    class_folders,
    class_name,
    read_images,
    read_snapshots,
)
from teddy.report.pictures import image_sets
from teddy.report.runs import Run

MAX_SETS = 12
PIXELS = 3_000_000
"""Aim for so many pixels in the whole browser, at most about ten megabytes of the page."""


@dataclass(frozen=True)
class Cell:
    """A class of one set as data URIs: an image by iteration of its snapshots, and the exported images."""

    snapshots: dict[int, str]
    images: list[str]


@dataclass(frozen=True)
class Browser:
    """Sets of one dataset.

    Attributes:
        folders: where each set lies as a whole, by its name.
        rows: by class, a cell for each set.
        iterations: of all snapshots, ascending.
        each: images beside each other.
    """

    heading: str
    note: str
    folders: dict[str, Path]
    rows: dict[str, list[Cell]]
    iterations: list[int]
    each: int


def browsers(comparison: Comparison) -> list[Browser]:
    """Make a browser for each dataset with images that are still there."""
    found = image_sets(comparison)
    return [_browser(f"Images: {dataset}" if len(found) > 1 else "Images", sets) for dataset, sets in found.items()]


def _browser(heading: str, every: dict[str, tuple[str, Run]]) -> Browser:
    sets = dict(list(every.items())[:MAX_SETS])
    folders = {name: run.path(method, "images") or Path() for name, (method, run) in sets.items()}
    paths = {name: run.path(method, "snapshots") for name, (method, run) in sets.items()}
    snapshots = {name: read_snapshots(path) if path else [] for name, path in paths.items()}
    own = {name: class_folders(folder) for name, folder in folders.items()}
    first, run = next(iter(own.values())), next(iter(sets.values()))[1]
    count, each = min(map(len, own.values())), max(3, min(COLUMNS, 24 // len(sets)))
    side = min(CELL, read_images(first[0])[0].shape[-1])
    pixels = sum(each + len(some) for some in snapshots.values()) * side**2
    followed = dict.fromkeys(label for some in snapshots.values() for _, classes, _ in some for label in classes)
    chosen = [*(label for label in followed if label < count), *choose(count, MAX_CLASSES)]
    chosen = sorted(list(dict.fromkeys(chosen))[: max(3, min(MAX_CLASSES, PIXELS // pixels))])
    rows: dict[str, list[Cell]] = {}
    for label in chosen:
        rows[class_name(run, first, label)] = [
            Cell(
                {
                    step: data_uri(images[classes.index(label)])
                    for step, classes, images in snapshots[name]
                    if label in classes
                },
                [data_uri(image) for image in read_images(own[name][label])[:each]],
            )
            for name in sets
        ]
    most = max(len(cell.images) for cells in rows.values() for cell in cells)
    parts = [f"{len(rows)} of {count:,} classes"] if len(rows) < count else []
    parts += [f"the first {len(sets)} of {len(every)} sets"] if len(sets) < len(every) else []
    parts += [f"at most {most} images of each class", *[f"shrunk to {CELL} pixels"] * (side == CELL)]
    steps = sorted({step for some in snapshots.values() for step, _, _ in some})
    return Browser(heading, ", ".join(parts).capitalize(), folders, rows, steps, min(4, most))


def data_uri(image: torch.Tensor) -> str:
    """Encode an image uint8 (C, H, W) as PNG, pixel for pixel, or shrunk if it is larger than a cell of a grid."""
    picture, stream = to_pil_image(image), io.BytesIO()
    if picture.width > CELL:
        picture = picture.resize((CELL, round(CELL * picture.height / picture.width)))
    picture.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
