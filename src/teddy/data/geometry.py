"""Crops, flips and shifts of a whole batch at once, with the numbers drawn elsewhere.

Every function is pure and differentiable with respect to the pixels, and loops over no image, so that
teachers, synthesis and soft labels share one geometry on any device. Randomness enters as uniforms (see
``teddy.runtime.seeding``) or as explicit boxes. Numbers drawn on the host go to the device with ``non_blocking=True``, here and
wherever views are made: otherwise each of these small copies would wait until the device has done all that it was given.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

_TRIES = 10

CROP_DRAWS = 2 * _TRIES + 2
"""How many uniforms ``crop_boxes`` wants per image: area and aspect ratio of each try, then top and left."""


def crop_boxes(
    uniforms: np.ndarray,
    height: int,
    width: int,
    min_scale: float,
    max_scale: float = 1.0,
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> torch.Tensor:
    """Boxes of random resized crops, distributed as torchvision's ``RandomResizedCrop`` draws them.

    The first of ten (area, log aspect ratio) pairs that fits the image is taken and placed uniformly; if none
    fits, the box is the largest central one whose aspect ratio is allowed.

    Args:
        uniforms: numbers in [0, 1), (n, CROP_DRAWS).
        min_scale: smallest area as a share of the image's area; ``max_scale`` the largest.
        ratio: smallest and largest width / height.

    Returns:
        Long tensor (n, 4) with rows (top, left, height, width), on the CPU.
    """
    n = len(uniforms)
    areas = height * width * (min_scale + (max_scale - min_scale) * uniforms[:, 0 : 2 * _TRIES : 2])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspects = np.exp(low + (high - low) * uniforms[:, 1 : 2 * _TRIES : 2])
    widths = np.rint(np.sqrt(areas * aspects)).astype(np.int64)
    heights = np.rint(np.sqrt(areas / aspects)).astype(np.int64)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    fitted, first, rows = fits.any(1), fits.argmax(1), np.arange(n)

    central_height, central_width = _central_box(height, width, ratio)
    crop_height = np.where(fitted, heights[rows, first], central_height)
    crop_width = np.where(fitted, widths[rows, first], central_width)
    top = np.floor(uniforms[:, -2] * (height - crop_height + 1)).astype(np.int64)
    left = np.floor(uniforms[:, -1] * (width - crop_width + 1)).astype(np.int64)
    top = np.where(fitted, top, (height - central_height) // 2)
    left = np.where(fitted, left, (width - central_width) // 2)
    return torch.from_numpy(np.stack([top, left, crop_height, crop_width], axis=1))


def _central_box(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int]:
    if width / height < ratio[0]:
        return round(width / ratio[0]), width
    if width / height > ratio[1]:
        return height, round(height * ratio[1])
    return height, width


def resized_crop(images: torch.Tensor, boxes: torch.Tensor, size: int) -> torch.Tensor:
    """Cuts a box out of each image and resizes it bilinearly, without antialiasing.

    Equal, up to rounding, to torchvision's ``resized_crop(..., antialias=False)`` image by image; nothing
    outside a box is seen.

    Args:
        images: floating point, (n, C, H, W).
        boxes: (n, 4), rows (top, left, height, width) in pixels, inside the image.

    Returns:
        (n, C, size, size), in the type of ``images``.
    """
    # Sixteen-bit coordinates would miss by whole pixels, so positions are never coarser than float32.
    exact = images if images.dtype == torch.float64 else images.float()
    edges = boxes.to(device=images.device, dtype=exact.dtype, non_blocking=True)
    rows = _source_positions(edges[:, 0:1], edges[:, 2:3], size)
    columns = _source_positions(edges[:, 1:2], edges[:, 3:4], size)
    resampled: torch.Tensor = _SeparableBilinear.apply(exact, rows, columns)
    return resampled.to(images.dtype)


def shared_crop(images: torch.Tensor, box: torch.Tensor, size: int) -> torch.Tensor:
    """``resized_crop`` with one box (4,) for the whole batch, as SRe2L crops a block in each iteration."""
    top, left, height, width = box.tolist()
    if images.device.type == "cpu":  # elsewhere the gradient of torch's own kernel is not reproducible
        return _cut(images, top, left, height, width, size)
    cut: torch.Tensor = _SharedBilinear.apply(images, top, left, height, width, size)
    return cut


def _cut(images: torch.Tensor, top: int, left: int, height: int, width: int, size: int) -> torch.Tensor:
    """One box is a slice, and needs no position for each pixel of each image."""
    inside = images[..., top : top + height, left : left + width]
    return F.interpolate(inside, size=(size, size), mode="bilinear", align_corners=False)


def _source_positions(start: torch.Tensor, length: torch.Tensor, size: int) -> torch.Tensor:
    """Where each output pixel looks along one axis: pixel coordinates (n, size), kept inside the crop."""
    steps = torch.arange(size, device=start.device, dtype=start.dtype) + 0.5
    inside = (steps * (length / size) - 0.5).clamp(min=0)
    return start + torch.minimum(inside, length - 1)


class _SeparableBilinear(torch.autograd.Function):
    """Bilinear sampling on a per-image grid of rows x columns, with a reproducible gradient.

    The backward pass of ``grid_sample`` adds atomically on CUDA, so its sum depends on the order in which
    threads arrive; here the gradient is two batched matrix products instead (invariant 2). It is linear,
    hence differentiable again.
    """

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(rows, columns)
        ctx.height, ctx.width = images.shape[-2:]
        y = ((2 * rows + 1) / ctx.height - 1)[:, :, None].expand(-1, -1, columns.shape[1])
        x = ((2 * columns + 1) / ctx.width - 1)[:, None, :].expand(-1, rows.shape[1], -1)
        grid = torch.stack([x, y], dim=-1)
        # "border" only matters where rounding puts an edge position a hair outside the image.
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = gradients
        rows, columns = ctx.saved_tensors
        with torch.autocast(gradient.device.type, enabled=False):
            weigh_rows = _hat_weights(rows, ctx.height).transpose(1, 2).unsqueeze(1)
            weigh_columns = _hat_weights(columns, ctx.width).unsqueeze(1)
            return weigh_rows @ gradient @ weigh_columns, None, None


class _SharedBilinear(torch.autograd.Function):
    """The slice of :func:`_cut` with a reproducible gradient: two matrix products, of weights made on the device."""

    @staticmethod
    def forward(
        ctx: Any, images: torch.Tensor, top: int, left: int, height: int, width: int, size: int
    ) -> torch.Tensor:
        ctx.shape, ctx.box = images.shape, (top, left, height, width)
        return _cut(images, top, left, height, width, size)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        top, left, height, width = ctx.box
        with torch.autocast(gradient.device.type, enabled=False):
            rows, columns = (
                _hat_weights(_positions(start, length, gradient)[None], whole)[0]
                for start, length, whole in ((top, height, ctx.shape[-2]), (left, width, ctx.shape[-1]))
            )
            return rows.T @ (gradient @ columns), *[None] * 5


def _positions(start: int, length: int, like: torch.Tensor) -> torch.Tensor:
    """:func:`_source_positions` of one axis (size,) from plain numbers: tensors would have to be copied to the device."""
    steps = torch.arange(like.shape[-1], device=like.device, dtype=like.dtype) + 0.5
    return start + (steps * (length / like.shape[-1]) - 0.5).clamp(min=0, max=length - 1)


def _hat_weights(positions: torch.Tensor, length: int) -> torch.Tensor:
    """Bilinear weights along one axis: (n, size, length), entry = max(0, 1 - |position - pixel|)."""
    pixels = torch.arange(length, device=positions.device, dtype=positions.dtype)
    return (1 - (positions[:, :, None] - pixels).abs()).clamp(min=0)


def flip(images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mirrors left and right where ``mask`` (n,) is true; images (n, C, H, W) of any type."""
    return torch.where(mask.to(images.device, non_blocking=True).view(-1, 1, 1, 1), images.flip(-1), images)


def roll(images: torch.Tensor, shift_y: int, shift_x: int) -> torch.Tensor:
    """Shifts the batch (n, C, H, W) down and right in pixels, what leaves one side coming in on the other."""
    return torch.roll(images, shifts=(shift_y, shift_x), dims=(-2, -1))


def padded_crop(images: torch.Tensor, offsets: torch.Tensor, padding: int) -> torch.Tensor:
    """Pads with zeros and cuts the original size out again: torchvision's ``RandomCrop(size, padding)``.

    Args:
        images: (n, C, H, W), any type. Zero is black for uint8 images and the mean colour for normalised
          ones.
        offsets: top and left of each crop in the padded image, (n, 2), each in ``0 .. 2 * padding``.

    Returns:
        (n, C, H, W).
    """
    n, _, height, width = images.shape
    padded = F.pad(images, (padding, padding, padding, padding))
    offsets = offsets.to(images.device, non_blocking=True)
    # A view of every window, (n, C, top, left, H, W), of which one per image is copied.
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(n, device=images.device), :, offsets[:, 0], offsets[:, 1]].contiguous()
