"""Differentiable Siamese Augmentation (Zhao & Bilen, ICML 2021), of the DC family.

A strategy is a sequence of steps; each draws one of its operations per batch, and its strength per image, or one for the whole
batch (Siamese). An operation takes normalised images (B, C, H, W) and uniforms (B, DSA_DRAWS), and is differentiable with respect
to the pixels. The strengths are the published ones for every small dataset.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from teddy.data import geometry
from teddy.runtime import seeding

DSA_DRAWS = 3  # uniforms per image for an operation
FLIP = 0.5  # probability of a horizontal flip
SCALE = 1.2  # largest zoom, in and out
ROTATE = 15.0  # largest angle in degrees
CROP = 0.125  # largest shift as a share of the side
CUTOUT = 0.5  # side of the square as a share of the image's
BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5
"""Width of the added interval; largest factor on the distance to grey; smallest factor on the distance to the mean."""


def color(images: torch.Tensor, uniforms: np.ndarray) -> torch.Tensor:
    """Change brightness, saturation and contrast, one after the other, each with its own uniform.

    With u in [0, 1): ``x + b * (u - 1/2)``; ``g + s * u * (x - g)`` around the grey image g, the mean over
    channels; ``m + (u + c) * (x - m)`` around the image's mean m. With one channel, the image is its own grey image.
    """
    brighten, saturate, contrast = (
        torch.from_numpy(column).to(device=images.device, dtype=images.dtype, non_blocking=True).view(-1, 1, 1, 1)
        for column in uniforms.T
    )
    images = images + BRIGHTNESS * (brighten - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + SATURATION * saturate * (images - grey)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (contrast + CONTRAST) * (images - mean)


def crop(images: torch.Tensor, uniforms: np.ndarray) -> torch.Tensor:
    """Shift by whole pixels along both axes, padded with zeros."""
    reach = int(images.shape[-1] * CROP + 0.5)
    offsets = np.floor(uniforms[:, :2] * (2 * reach + 1)).astype(np.int64)
    return geometry.padded_crop(images, torch.from_numpy(offsets), reach)


def cutout(images: torch.Tensor, uniforms: np.ndarray) -> torch.Tensor:
    """Zero a square centred anywhere in the image, clipped at the border."""
    hidden = torch.ones((), device=images.device, dtype=torch.bool)
    for axis, draw in ((2, 0), (3, 1)):
        length = images.shape[axis]
        side = int(length * CUTOUT + 0.5)
        # An even square has one more possible centre: between the last pixel and the border.
        centre = np.floor(uniforms[:, draw] * (length + 1 - side % 2)).astype(np.int64)
        first = torch.from_numpy(centre - side // 2).to(images.device, non_blocking=True)[:, None]
        pixels = torch.arange(length, device=images.device)
        covered = (pixels >= first) & (pixels < first + side)
        hidden = hidden & covered.view(len(images), *(length if i == axis else 1 for i in (1, 2, 3)))
    return images.masked_fill(hidden, 0.0)


def flip(images: torch.Tensor, uniforms: np.ndarray) -> torch.Tensor:
    """Flip each image horizontally with the given probability."""
    return geometry.flip(images, torch.from_numpy(uniforms[:, 0] < FLIP))


def scale(images: torch.Tensor, uniforms: np.ndarray) -> torch.Tensor:
    """Zoom each axis about the centre by a factor of its own between 1 / SCALE and SCALE."""
    factors = 1 / SCALE + (SCALE - 1 / SCALE) * uniforms[:, :2]
    zero = np.zeros(len(images))
    return _affine(images, np.stack([factors[:, 0], zero, zero, factors[:, 1]], axis=1))


def rotate(images: torch.Tensor, uniforms: np.ndarray) -> torch.Tensor:
    """Rotate about the centre by up to ROTATE degrees in either direction."""
    angle = math.radians(ROTATE) * (2 * uniforms[:, 0] - 1)
    cosine, sine = np.cos(angle), np.sin(angle)
    return _affine(images, np.stack([cosine, -sine, sine, cosine], axis=1))


Operation = Callable[[torch.Tensor, np.ndarray], torch.Tensor]

STRATEGIES: dict[str, tuple[tuple[Operation, ...], ...]] = {
    "none": (),
    "dsa": ((color, crop, cutout, flip, scale, rotate),),
    "dsa_no_flip": ((color, crop, cutout, scale, rotate),),
    "dsa_strong": ((flip,), (color,), (crop, scale, rotate)),
    "dsa_strong_matching": ((color,), (crop,), (cutout,)),
}
"""Steps, each with the operations that one is drawn of: no step; of DC and DM; the same for images that a mirror changes, such as
letters; of the IDC family in evaluation; in matching."""


def dsa(images: torch.Tensor, *seed_keys: seeding.Key, strategy: str = "dsa", siamese: bool = False) -> torch.Tensor:
    """Augment a batch (B, C, H, W) of normalised images, in the same way whenever the keys are the same.

    Siamese: with one strength for all images, so that real and synthetic batches are transformed alike.
    """
    samples = np.zeros(len(images)) if siamese else np.arange(len(images))
    for index, operations in enumerate(STRATEGIES[strategy]):
        keys = (*seed_keys, index) if index else seed_keys
        operation = operations[int(seeding.uniform(*keys, "operation")[0, 0] * len(operations))]
        images = operation(images, seeding.uniform(*keys, "strength", samples=samples, draws=DSA_DRAWS))
    return images


def _affine(images: torch.Tensor, matrices: np.ndarray) -> torch.Tensor:
    """Sample at linearly mapped positions about the centre; ``matrices`` (B, 4) row-major, zeros outside."""
    linear = torch.from_numpy(matrices).to(device=images.device, dtype=images.dtype, non_blocking=True).view(-1, 2, 2)
    maps = torch.cat([linear, torch.zeros_like(linear[:, :, :1])], dim=2)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    if images.is_cuda and torch.are_deterministic_algorithms_enabled():
        return gathered(images, grid)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def gathered(images: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """``grid_sample``, bilinear with zeros outside, by sums that CUDA can take in a fixed order; slower.

    The backward pass of ``grid_sample`` has no deterministic form there. ``grid`` is (B, H, W, 2), x before y, from -1 to 1.
    """
    height, width = images.shape[-2:]
    x, y = (((grid[..., axis] + 1) * length - 1) / 2 for axis, length in ((0, width), (1, height)))
    left, top, pixels, sampled = x.floor(), y.floor(), images.flatten(2), torch.zeros_like(images)
    for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        weight = inside * (1 - (x - column).abs()) * (1 - (y - row).abs())
        index = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).long().flatten(1)
        neighbours = pixels.gather(2, index[:, None].expand(-1, images.shape[1], -1)).view_as(images)
        sampled = sampled + weight[:, None] * neighbours
    return sampled
