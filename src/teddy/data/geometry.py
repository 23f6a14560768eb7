"""Crops and flips of a whole batch, with random numbers drawn elsewhere.

All functions are pure, differentiable with respect to the pixels and free of loops over images; teachers, synthesis and soft
labels share them on any device. Randomness enters as uniforms (see ``teddy.runtime.seeding``) or as explicit boxes. Numbers
drawn on the host go to the device with ``non_blocking=True``: a blocking copy waits until the device has done all its work.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

_TRIES = 10
_RATIOS = (3 / 4, 4 / 3)  # smallest and largest width / height

CROP_DRAWS = 2 * _TRIES + 2  # uniforms per image for crop_boxes: area and aspect ratio of each try, then top and left


def crop_boxes(uniforms: np.ndarray, height: int, width: int, min_scale: float) -> torch.Tensor:
    """Boxes of random resized crops, distributed as in torchvision's ``RandomResizedCrop``.

    The first of ten (area, log aspect ratio) pairs that fits the image is taken and placed uniformly; if none fits, the box is
    the largest central one with an allowed aspect ratio. Uniforms are (n, CROP_DRAWS); areas go from ``min_scale`` of the image's
    to all of it. Rows are (top, left, height, width), int64 (n, 4), on the CPU.
    """
    n = len(uniforms)
    areas = height * width * (min_scale + (1 - min_scale) * uniforms[:, 0 : 2 * _TRIES : 2])
    low, high = math.log(_RATIOS[0]), math.log(_RATIOS[1])
    aspects = np.exp(low + (high - low) * uniforms[:, 1 : 2 * _TRIES : 2])
    widths = np.rint(np.sqrt(areas * aspects)).astype(np.int64)
    heights = np.rint(np.sqrt(areas / aspects)).astype(np.int64)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    fitted, first, rows = fits.any(1), fits.argmax(1), np.arange(n)

    # Of an image with another aspect ratio than the allowed ones, the whole shorter side.
    central_height, central_width = min(height, round(width / _RATIOS[0])), min(width, round(height * _RATIOS[1]))
    crop_height = np.where(fitted, heights[rows, first], central_height)
    crop_width = np.where(fitted, widths[rows, first], central_width)
    top = np.floor(uniforms[:, -2] * (height - crop_height + 1)).astype(np.int64)
    left = np.floor(uniforms[:, -1] * (width - crop_width + 1)).astype(np.int64)
    top = np.where(fitted, top, (height - central_height) // 2)
    left = np.where(fitted, left, (width - central_width) // 2)
    return torch.from_numpy(np.stack([top, left, crop_height, crop_width], axis=1))


def resized_crop(images: torch.Tensor, boxes: torch.Tensor, size: int) -> torch.Tensor:
    """Cut a box (n, 4) out of each floating-point image (n, C, H, W) and resize it bilinearly, without antialiasing.

    Equal, up to rounding, to torchvision's ``resized_crop(..., antialias=False)`` image by image; pixels outside a box have no
    influence.
    """
    # Sixteen-bit coordinates would miss by whole pixels, so positions are never coarser than float32.
    exact = images if images.dtype == torch.float64 else images.float()
    edges = boxes.to(device=images.device, dtype=exact.dtype, non_blocking=True)
    rows = _source_positions(edges[:, 0:1], edges[:, 2:3], size, exact)
    columns = _source_positions(edges[:, 1:2], edges[:, 3:4], size, exact)
    resampled: torch.Tensor = _SeparableBilinear.apply(exact, rows, columns)
    return resampled.to(images.dtype)


def shared_crop(images: torch.Tensor, box: torch.Tensor, size: int) -> torch.Tensor:
    """``resized_crop`` with one box (4,) for the whole batch."""
    top, left, height, width = box.tolist()
    if images.device.type == "cpu":  # elsewhere the gradient of torch's own kernel is not reproducible
        return _slice_and_resize(images, top, left, height, width, size)
    resampled: torch.Tensor = _SharedBilinear.apply(images, top, left, height, width, size)
    return resampled


def _slice_and_resize(images: torch.Tensor, top: int, left: int, height: int, width: int, size: int) -> torch.Tensor:
    inside = images[..., top : top + height, left : left + width]
    return F.interpolate(inside, size=(size, size), mode="bilinear", align_corners=False)


def _source_positions(start: Any, length: Any, size: int, like: torch.Tensor) -> torch.Tensor:
    """The coordinate along one axis that each output pixel samples, inside the crop: (size,), or (n, size) for n crops (n, 1)."""
    steps = torch.arange(size, device=like.device, dtype=like.dtype) + 0.5
    return start + (steps * (length / size) - 0.5).clamp(min=0).clamp(max=length - 1)


class _SeparableBilinear(torch.autograd.Function):
    """Bilinear sampling on a per-image grid of rows x columns, with a reproducible gradient.

    The backward pass of ``grid_sample`` adds atomically on CUDA, in an order that varies; here the gradient is two batched
    matrix products instead. It is linear, hence differentiable again.
    """

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(rows, columns)
        ctx.height, ctx.width = images.shape[-2:]
        y = ((2 * rows + 1) / ctx.height - 1)[:, :, None].expand(-1, -1, columns.shape[1])
        x = ((2 * columns + 1) / ctx.width - 1)[:, None, :].expand(-1, rows.shape[1], -1)
        grid = torch.stack([x, y], dim=-1)
        # "border" only matters where rounding moves an edge position slightly outside the image.
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = gradients
        rows, columns = ctx.saved_tensors
        with torch.autocast(gradient.device.type, enabled=False):
            row_weights = _hat_weights(rows, ctx.height).transpose(1, 2).unsqueeze(1)
            column_weights = _hat_weights(columns, ctx.width).unsqueeze(1)
            return row_weights @ gradient @ column_weights, None, None


class _SharedBilinear(torch.autograd.Function):
    """``_slice_and_resize`` with a reproducible gradient: two matrix products with weights made on the device."""

    @staticmethod
    def forward(
        ctx: Any, images: torch.Tensor, top: int, left: int, height: int, width: int, size: int
    ) -> torch.Tensor:
        ctx.shape, ctx.box = images.shape, (top, left, height, width)
        return _slice_and_resize(images, top, left, height, width, size)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        (top, left, height, width), size = ctx.box, gradient.shape[-1]
        with torch.autocast(gradient.device.type, enabled=False):
            rows = _hat_weights(_source_positions(top, height, size, gradient), ctx.shape[-2])
            columns = _hat_weights(_source_positions(left, width, size, gradient), ctx.shape[-1])
            return rows.T @ (gradient @ columns), *[None] * 5


def _hat_weights(positions: torch.Tensor, length: int) -> torch.Tensor:
    """Bilinear weights along one axis, (..., size) to (..., size, length): max(0, 1 - |position - pixel|)."""
    pixels = torch.arange(length, device=positions.device, dtype=positions.dtype)
    return (1 - (positions[..., None] - pixels).abs()).clamp(min=0)


def flip(images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mirror left and right where ``mask`` (n,) is true; images (n, C, H, W) of any type."""
    return torch.where(mask.to(images.device, non_blocking=True).view(-1, 1, 1, 1), images.flip(-1), images)


def padded_crop(images: torch.Tensor, offsets: torch.Tensor, padding: int) -> torch.Tensor:
    """Pad images (n, C, H, W) with zeros and cut the original size out again: torchvision's ``RandomCrop(size, padding)``.

    Zero is black in uint8 images and the mean colour in normalised ones; ``offsets`` (n, 2) are top and left of each crop in the
    padded image.
    """
    n, _, height, width = images.shape
    padded = F.pad(images, (padding, padding, padding, padding))
    offsets = offsets.to(images.device, non_blocking=True)
    # A view of all windows, (n, C, top, left, H, W), of which one per image is copied.
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(n, device=images.device), :, offsets[:, 0], offsets[:, 1]].contiguous()
