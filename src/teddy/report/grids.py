"""Image grids: synthetic images in rows and columns, pixel for pixel, so that no smoothing hides anything."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.nn.functional import interpolate
from torchvision.transforms.functional import pil_to_tensor
from torchvision.utils import draw_bounding_boxes, make_grid

from teddy.artifacts.store import read_json
from teddy.data.distilled import ANNOTATIONS
from teddy.data.images import open_image
from teddy.report.runs import Run
from teddy.runtime.resume import load_tensors

MAX_CLASSES, COLUMNS = 20, 10
GAP, LINE = 4, 28
BOX_COLOURS = ("red", "yellow", "cyan", "magenta", "lime", "orange", "white", "blue")
CELL = 112
"""Aim for the width of a shown image in pixels; larger images are shrunk to it, smaller ones repeat whole pixels."""

Rows = list[tuple[str, list[torch.Tensor]]]
"""The name of each row, and its images uint8 (C, H, W)."""


def image_grid(folder: Path, run: Run, path: Path) -> Path:
    """Draw one row per class with at most ten images each; of more than twenty classes, twenty chosen by a fixed seed."""
    folders = class_folders(folder)
    chosen = choose(len(folders), MAX_CLASSES)
    return draw({"": [(class_name(run, folders, index), read_images(folders[index])) for index in chosen]}, path)


def method_grid(folders: Mapping[str, Path], run: Run, path: Path) -> Path | None:
    """Draw a few classes, each with one row per image folder, under its name (Fig. 4, 6 and 7); None without a common class."""
    found = {name: class_folders(folder) for name, folder in folders.items()}
    chosen = choose(min(map(len, found.values())), max(2, min(6, 18 // len(folders))))
    some = next(iter(found.values()))
    blocks = {class_name(run, some, i): [(name, read_images(own[i])) for name, own in found.items()] for i in chosen}
    return draw(blocks, path) if blocks else None


def iteration_grid(folder: Path, run: Run, path: Path) -> Path | None:
    """Draw the same images over the iterations: one row per image, one column per snapshot, at most ten of each."""
    loaded = read_snapshots(folder)
    if not loaded:
        return None
    names = [class_name(run, [], index) for index in loaded[0][1]][:COLUMNS]
    rows = [(name, [images[index] for _, _, images in loaded]) for index, name in enumerate(names)]
    return draw({"": rows}, path, [f"{iteration:,}" for iteration, _, _ in loaded])


def read_snapshots(folder: Path) -> list[tuple[int, list[int], torch.Tensor]]:
    """Read at most ten snapshots, evenly over the iterations: the iteration, classes (N), and images uint8 (N, C, H, W)."""
    files = sorted(folder.glob("*.safetensors"))
    evenly = np.unique(np.linspace(0, len(files) - 1, COLUMNS).round().astype(int)) if files else ()
    loaded = [load_tensors(files[index]) for index in evenly]
    return [(notes["iteration"], notes["classes"], tensors["images"]) for tensors, notes in loaded]


def draw(blocks: Mapping[str, Rows], path: Path, columns: Sequence[str] = ()) -> Path:
    """Write blocks of rows below one another, each with its heading above and the names of its rows at the left."""
    names = [[textwrap.fill(name.replace("_", " "), 28, max_lines=4) for name, _ in rows] for rows in blocks.values()]
    left = 4 * GAP + 10 * max(len(line) for some in names for name in some for line in name.split("\n"))
    head = LINE if columns or any(blocks) else 0
    width = max(len(images) for rows in blocks.values() for _, images in rows)
    grids = [grid_of([images for _, images in rows], width) for rows in blocks.values()]
    top = sum(head + grid.shape[1] for grid in grids)
    size = max(left + grids[0].shape[2], 11 * max(map(len, blocks))), top
    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100, facecolor="white")
    text: Any = dict(fontsize=12, va="center", transform=None)  # positions are pixels from the lower left corner
    cell = (grids[0].shape[2] - GAP) / width
    for heading, some, grid in zip(blocks, names, grids, strict=True):
        figure.text(GAP, top - head / 2, heading.replace("_", " "), weight="bold", **text)
        for index, name in enumerate(columns):
            figure.text(left + (index + 0.5) * cell, top - head / 2, name, ha="center", **text)
        for index, name in enumerate(some):
            figure.text(left - 2 * GAP, top - head - (index + 0.5) * cell, name, ha="right", **text)
        top -= head + grid.shape[1]
        figure.figimage(grid.permute(1, 2, 0).numpy(), left, top)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def grid_of(rows: Sequence[Sequence[torch.Tensor]], width: int) -> torch.Tensor:
    """Rows of images uint8 (C, H, W) as one picture uint8 (3, H', W'), white between them and where images are missing."""
    size = next(image.shape[1:] for row in rows for image in row)
    white = torch.full((3, *size), 255, dtype=torch.uint8)
    images = torch.stack([image.expand(3, *size) for row in rows for image in [*row, *[white] * (width - len(row))]])
    if size[-1] > CELL:
        images = interpolate(images, CELL, mode="bilinear", antialias=True)
    else:
        images = interpolate(images, scale_factor=round(CELL / size[-1]), mode="nearest-exact")
    return make_grid(images, nrow=width, padding=GAP, pad_value=255)


def choose(classes: int, most: int) -> list[int]:
    """Draw ``most`` class indices, or all if there are fewer, by a fixed seed; ascending."""
    return sorted(np.random.default_rng(0).choice(classes, min(most, classes), replace=False).tolist())


def class_folders(folder: Path) -> list[Path]:
    """Subfolders of an image folder, sorted as their class indices are."""
    return sorted(child for child in folder.iterdir() if child.is_dir())


def read_images(folder: Path) -> list[torch.Tensor]:
    """Read the first ten images of a class, uint8 (3, H, W), and draw their boxes if they have some."""
    files, images = sorted(folder.glob("*.png"))[:COLUMNS], []
    for file in files:
        with open_image(file, str(file)) as image:
            images.append(pil_to_tensor(image.convert("RGB")))
    annotations = folder.parent / ANNOTATIONS
    if not annotations.is_file():
        return images
    content = read_json(annotations)
    places = {one["id"]: one["file_name"] for one in content["images"]}
    names = [f"{folder.name}/{file.name}" for file in files]
    for one in content["annotations"]:
        if places[one["image_id"]] in names:
            index = names.index(places[one["image_id"]])
            x, y, width, height = one["bbox"]
            colour = BOX_COLOURS[(one["category_id"] - 1) % len(BOX_COLOURS)]
            box, line = torch.tensor([[x, y, x + width, y + height]]), max(1, images[index].shape[-1] // 80)
            images[index] = draw_bounding_boxes(images[index], box, colors=colour, width=line)
    return images


def class_name(run: Run, folders: Sequence[Path], index: int) -> str:
    """Find the name of a class, or that of its folder, or its index."""
    names = run.record.get("class_names") or [folder.name for folder in folders]
    return names[index] if index < len(names) else str(index)
