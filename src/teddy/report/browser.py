"""The image browser of the page: classes in rows, methods side by side, from the first snapshot to the exported images."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import torch
from torchvision.transforms.functional import to_pil_image

from teddy.report import grids
from teddy.report.comparison import Comparison
from teddy.report.pictures import image_sets
from teddy.report.runs import Run

MAX_SETS = 12
PIXELS = 3_000_000  # to aim for in the whole browser, at most about ten megabytes of the page
Cell = tuple[dict[int, str], list[str]]  # data URIs: an image by the iteration of its snapshot, and the exported images


@dataclass(frozen=True)
class Browser:
    """Sets of one dataset."""

    heading: str
    note: str
    folders: dict[str, Path]  # where each set lies as a whole, by its name
    rows: dict[str, list[Cell]]  # by class, a cell for each set
    iterations: list[int]  # of all snapshots, ascending
    most: int  # images in a cell


def browsers(comparison: Comparison) -> list[Browser]:
    """Make a browser for each dataset with images that are still there."""
    found = image_sets(comparison)
    return [_browser(f"Images: {dataset}" if len(found) > 1 else "Images", sets) for dataset, sets in found.items()]


def _browser(heading: str, every: dict[str, tuple[str, Run]]) -> Browser:
    sets = dict(list(every.items())[:MAX_SETS])
    folders = {name: run.path(method, "images") or Path() for name, (method, run) in sets.items()}
    paths = {name: run.path(method, "snapshots") for name, (method, run) in sets.items()}
    snapshots = {name: grids.read_snapshots(path) if path else [] for name, path in paths.items()}
    own = {name: grids.class_folders(folder) for name, folder in folders.items()}
    first, run = next(iter(own.values())), next(iter(sets.values()))[1]
    count, each = min(map(len, own.values())), max(3, min(grids.COLUMNS, 24 // len(sets)))
    side = min(grids.CELL, grids.read_images(first[0])[0].shape[-1])
    classes = PIXELS // (sum(each + len(some) for some in snapshots.values()) * side**2)
    followed = [label for some in snapshots.values() for _, labels, _ in some for label in labels if label < count]
    chosen = dict.fromkeys([*followed, *grids.choose(count, grids.MAX_CLASSES)])
    rows: dict[str, list[Cell]] = {}
    for label in sorted(list(chosen)[: max(3, min(grids.MAX_CLASSES, classes))]):
        cells = rows[grids.class_name(run, first, label)] = []
        for name, taken in snapshots.items():
            on_the_way = {step: images[labels.index(label)] for step, labels, images in taken if label in labels}
            exported = grids.read_images(own[name][label])[:each]
            cells.append(({step: _uri(image) for step, image in on_the_way.items()}, [*map(_uri, exported)]))
    most = max(len(exported) for cells in rows.values() for _, exported in cells)
    parts = [f"{len(rows)} of {count:,} classes"] if len(rows) < count else []
    parts += [f"the first {len(sets)} of {len(every)} sets"] if len(sets) < len(every) else []
    parts += [f"at most {most} images of each class", *[f"shrunk to {side} pixels"] * (side == grids.CELL)]
    steps = sorted({step for some in snapshots.values() for step, _, _ in some})
    return Browser(heading, ", ".join(parts).capitalize(), folders, rows, steps, most)


def _uri(image: torch.Tensor) -> str:
    """Encode an image uint8 (C, H, W) as PNG, pixel for pixel, or shrunk if it is larger than a cell of a grid."""
    picture, stream = to_pil_image(image), io.BytesIO()
    if picture.width > grids.CELL:
        picture = picture.resize((grids.CELL, round(grids.CELL * picture.height / picture.width)))
    picture.save(stream, "PNG")
    return data_uri(stream.getvalue())


def data_uri(png: bytes) -> str:
    """Encode a PNG file as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
