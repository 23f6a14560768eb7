"""Image sheets: synthetic images in rows and columns, pixel for pixel, so that nothing is hidden by
smoothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image, ImageFont

MAX_CLASSES = 20
METHOD_CLASSES, METHOD_ROWS = 6, 18
INK, FAINT = (34, 34, 34), (110, 110, 110)
GAP = 4
MARGIN = 16
FONT_PX, LARGE_PX = 17, 25
_CELL_AIM, _CELL_MAX = 112, 160


@dataclass(frozen=True)
class Grid:
    """Where the cells of a sheet lie, in pixels.

    Attributes:
        cell: width and height of one shown image.
        scale: how many sheet pixels one image pixel takes on each axis; 0 where a large image is shrunk
            instead.
        left, top: the upper left corner of cell (0, 0).
        block, space: after so many rows, so many more pixels are left free (0: never).
    """

    rows: int
    columns: int
    cell: int
    scale: int
    left: int
    top: int
    block: int = 0
    space: int = 0

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """The (x, y) of a cell's upper left pixel."""
        spaces = row // self.block if self.block else 0
        return self.left + column * (self.cell + GAP), self.top + row * (self.cell + GAP) + spaces * self.space

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole sheet."""
        x, y = self.corner(self.rows - 1, self.columns - 1)
        return x + self.cell + MARGIN, y + self.cell + MARGIN


def cell_size(pixels: int) -> tuple[int, int]:
    """How large an image of ``pixels`` × ``pixels`` is shown, and the whole-number scale (0: shrunk)."""
    if pixels > _CELL_MAX:
        return _CELL_MAX, 0
    scale = max(1, round(_CELL_AIM / pixels))
    return pixels * scale, scale


def image_sheet(
    images: np.ndarray,
    labels: Sequence[int] | np.ndarray,
    class_names: Sequence[str],
    path: Path,
    columns_per_class: int = 10,
    title: str = "",
    seed: int = 0,
) -> Grid:
    """Draws one row per class with the class name at its left.

    Args:
        images: uint8 (N, C, H, W), one or three channels.
        labels: class index of each image, (N,).
        columns_per_class: at most so many images of each class, in their order.
        seed: with more than twenty classes, chooses the twenty that are shown.

    Returns:
        The geometry of the sheet that was written to ``path``.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    classes = choose(np.unique(labels), MAX_CLASSES, seed)
    rows = [list(images[labels == label][:columns_per_class]) for label in classes]
    return _draw(rows, [class_names[label] for label in classes], [], path, title)


def iteration_sheet(
    snapshots: Sequence[tuple[int, np.ndarray]],
    path: Path,
    row_names: Sequence[str] = (),
    title: str = "",
    max_rows: int = 10,
) -> Grid:
    """Draws the same images over the iterations: one row per image, one column per snapshot.

    Args:
        snapshots: (iteration, images uint8 (N, C, H, W)) in ascending order; the images correspond.
        row_names: what each image is, usually its class.
    """
    count = min(max_rows, len(snapshots[0][1]))
    rows = [[np.asarray(images)[index] for _, images in snapshots] for index in range(count)]
    return _draw(rows, list(row_names[:count]), [f"{iteration:,}" for iteration, _ in snapshots], path, title)


def choose(classes: Sequence[int] | np.ndarray, most: int, seed: int = 0) -> list[int]:
    """At most so many classes, drawn by the seed, in their order."""
    some = np.asarray(classes)
    if len(some) > most:
        some = np.sort(np.random.default_rng(seed).choice(some, most, replace=False))
    return [int(label) for label in some]


def method_sheet(
    images: Mapping[str, Mapping[int, Sequence[np.ndarray]]], class_names: Sequence[str], path: Path, columns: int = 10
) -> Grid:
    """Draws methods one below the other, class by class, as the paper's Fig. 4, 6 and 7 do.

    Args:
        images: by method, and by class index, images uint8 (C, H, W); a class is drawn if some method has it.
        columns: at most so many images of each class, in their order.

    Returns:
        The geometry of the sheet; row ``n`` is the method ``n % len(images)``.
    """
    labels = sorted({label for some in images.values() for label in some})
    rows = [list(some.get(label, ()))[:columns] for label in labels for some in images.values()]
    headings = [class_names[label] if label < len(class_names) else str(label) for label in labels]
    return _draw(rows, list(images) * len(labels), [], path, "", headings)


def classes_to_compare(classes: Sequence[int] | np.ndarray, methods: int, seed: int = 0) -> list[int]:
    """A few classes for :func:`method_sheet`, fewer where there are many methods, drawn by the seed."""
    return choose(classes, max(2, min(METHOD_CLASSES, METHOD_ROWS // methods)), seed)


def read_folder(folder: Path, classes: Sequence[int], columns: int = 10) -> dict[int, list[np.ndarray]]:
    """The first images of some classes, uint8 (3, H, W), from a folder of PNG files by class.

    Args:
        classes: indices of the folder's subfolders in the order of their names.
    """
    from PIL import Image

    places = class_folders(folder)
    found: dict[int, list[np.ndarray]] = {}
    for label in classes:
        for file in sorted(places[label].glob("*.png"))[:columns] if label < len(places) else ():
            with Image.open(file) as image:
                found.setdefault(label, []).append(np.asarray(image.convert("RGB")).transpose(2, 0, 1))
    return found


def class_folders(folder: Path) -> list[Path]:
    """The subfolders of an image folder, whose sorted order is the order of class indices; none if it is not there."""
    return sorted(child for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []


def _draw(
    rows: list[list[np.ndarray]],
    row_names: list[str],
    column_names: list[str],
    path: Path,
    title: str,
    headings: Sequence[str] = (),
) -> Grid:
    """Draws images in rows.

    Args:
        headings: names of equal blocks of rows, each written above its block, at the left.
    """
    from PIL import Image, ImageDraw

    px = LARGE_PX if headings else FONT_PX
    font, bold = _font(px), _font(px, bold=True)
    names = [name.replace("_", " ") for name in row_names]
    names = [_wrap(name, font, 9 * px) if headings else _fit(name, font, 200) for name in names]
    cell, scale = cell_size(next(row[0] for row in rows if row).shape[-1])
    grid = Grid(
        rows=len(rows),
        columns=max(len(row) for row in rows),
        cell=cell,
        scale=scale,
        left=MARGIN + (round(max(map(font.getlength, "\n".join(names).split("\n")))) + 12 if names else 0),
        top=MARGIN + (px + 14 if title else 0) + (px + 8 if column_names or headings else 0),
        block=len(rows) // len(headings) if headings else 0,
        space=px + 22 if headings else 0,
    )
    if title:
        title = _fit(title, bold, grid.size[0] - 2 * MARGIN)
    sheet = Image.new("RGB", grid.size, "white")
    pen = ImageDraw.Draw(sheet)
    if title:
        pen.text((MARGIN, MARGIN), title, INK, bold, anchor="lt")
    for column, name in enumerate(column_names):
        x, y = grid.corner(0, column)
        pen.text((x + cell // 2, y - 8), _fit(name, font, cell), FAINT, font, anchor="ms")
    for index, name in enumerate(headings):
        _, y = grid.corner(index * grid.block, 0)
        name = _fit(name.replace("_", " "), bold, grid.size[0] - 2 * MARGIN)
        pen.text((MARGIN, y - 8), name, INK, bold, anchor="ls")
    for index, row in enumerate(rows):
        if names:
            x, y = grid.corner(index, 0)
            pen.text((x - 12, y + cell // 2), names[index], INK, font, anchor="rm", align="right")
        for column, image in enumerate(row):
            sheet.paste(_shown(image, cell, scale), grid.corner(index, column))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)
    return grid


def _shown(image: np.ndarray, cell: int, scale: int) -> Image.Image:
    """One image (C, H, W) at the cell's size: repeated pixels for small images, an area average for large
    ones.
    """
    from PIL import Image

    pixels = np.ascontiguousarray(np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0))
    return Image.fromarray(pixels).resize((cell, cell), Image.Resampling.NEAREST if scale else Image.Resampling.LANCZOS)


def _font(px: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    from matplotlib import font_manager
    from PIL import ImageFont

    family = font_manager.FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return ImageFont.truetype(font_manager.findfont(family), px)


def _fit(text: str, font: Any, width: int) -> str:
    """Shortens text with an ellipsis until it is at most ``width`` pixels wide."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip(" ,") + "…"


def _wrap(text: str, font: Any, width: int, most: int = 3) -> str:
    """Text in at most so many lines, each at most ``width`` pixels wide."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    kept = [*lines[: most - 1], " ".join(lines[most - 1 :])]
    return "\n".join(_fit(line, font, width) for line in kept if line)
