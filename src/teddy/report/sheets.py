"""Image sheets: synthetic images in rows and columns, pixel for pixel, so that nothing is hidden by
smoothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image, ImageFont

MAX_CLASSES = 20
INK, FAINT = (34, 34, 34), (110, 110, 110)
GAP = 4
MARGIN = 16
FONT_PX = 17
_CELL_AIM, _CELL_MAX = 112, 160


@dataclass(frozen=True)
class Grid:
    """Where the cells of a sheet lie, in pixels.

    Attributes:
        cell: width and height of one shown image.
        scale: how many sheet pixels one image pixel takes on each axis; 0 where a large image is shrunk
            instead.
        left, top: the upper left corner of cell (0, 0).
    """

    rows: int
    columns: int
    cell: int
    scale: int
    left: int
    top: int

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """The (x, y) of a cell's upper left pixel."""
        return self.left + column * (self.cell + GAP), self.top + row * (self.cell + GAP)

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
    classes = np.unique(labels)
    if len(classes) > MAX_CLASSES:
        classes = np.sort(np.random.default_rng(seed).choice(classes, MAX_CLASSES, replace=False))
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


def _draw(rows: list[list[np.ndarray]], row_names: list[str], column_names: list[str], path: Path, title: str) -> Grid:
    from PIL import Image, ImageDraw

    font, bold = _font(), _font(bold=True)
    names = [_fit(name.replace("_", " "), font, 200) for name in row_names]
    cell, scale = cell_size(rows[0][0].shape[-1])
    grid = Grid(
        rows=len(rows),
        columns=max(len(row) for row in rows),
        cell=cell,
        scale=scale,
        left=MARGIN + (round(max(map(font.getlength, names))) + 12 if names else 0),
        top=MARGIN + (FONT_PX + 14 if title else 0) + (FONT_PX + 8 if column_names else 0),
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
    for index, row in enumerate(rows):
        if names:
            x, y = grid.corner(index, 0)
            pen.text((x - 12, y + cell // 2), names[index], INK, font, anchor="rm")
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


def _font(bold: bool = False) -> ImageFont.FreeTypeFont:
    from matplotlib import font_manager
    from PIL import ImageFont

    family = font_manager.FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return ImageFont.truetype(font_manager.findfont(family), FONT_PX)


def _fit(text: str, font: Any, width: int) -> str:
    """Shortens text with an ellipsis until it is at most ``width`` pixels wide."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip(" ,") + "…"
