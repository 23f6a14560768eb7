"""Images that hold several smaller ones, as tiles in rows and columns."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from teddy.config.errors import UserError

_AT_ONCE = 100


def check_tiles(size: int, tiles: int) -> None:
    """Raise UserError if the side of images is no multiple of ``tiles``."""
    if size % tiles:
        raise UserError(
            f"images of {size} x {size} pixels cannot hold {tiles} x {tiles} tiles of the same size; set the method's key "
            f"tiles to a divisor of {size}, or dataset.size to a multiple of {tiles}."
        )


def encode_tiles(images: torch.Tensor, tiles: int) -> torch.Tensor:
    """Shrink images, uint8 (N * tiles^2, C, H, W), and put ``tiles`` x ``tiles`` of them, which lie together, into one, by rows.

    A pixel of a tile is the mean of the ``tiles`` x ``tiles`` pixels that it replaces.
    """
    if tiles == 1:
        return images
    channels, size = images.shape[1], images.shape[-1]
    check_tiles(size, tiles)
    side = size // tiles
    small = F.avg_pool2d(images.float(), tiles).round().to(torch.uint8)
    grid = small.view(-1, tiles, tiles, channels, side, side)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, size, size)


def decode_tiles(images: torch.Tensor, tiles: int) -> torch.Tensor:
    """Cut images, uint8 (N, C, H, W), into tiles, by rows, and enlarge each bilinearly to their size: (N * tiles^2, C, H, W)."""
    if tiles == 1:
        return images
    decoded = images.new_empty(len(images) * tiles**2, *images.shape[1:])
    for target, part in zip(decoded.split(_AT_ONCE * tiles**2), images.split(_AT_ONCE), strict=True):
        target.copy_(enlarge_tiles(part.float(), tiles).round())
    return decoded


def enlarge_tiles(images: torch.Tensor, tiles: int) -> torch.Tensor:
    """:func:`decode_tiles` of floating-point images, without rounding: it is differentiable with respect to them."""
    if tiles == 1:
        return images
    count, channels, size, _ = images.shape
    grid = images.reshape(count, channels, tiles, size // tiles, tiles, size // tiles)
    small = grid.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    return F.interpolate(small, scale_factor=tiles, mode="bilinear", align_corners=False)
