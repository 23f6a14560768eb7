"""Differentiable Siamese Augmentation (Zhao & Bilen, ICML 2021): how the DC family evaluates.

One operation is drawn per batch, and its strength per image. All operations act on normalised images and are
differentiable with respect to the pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from teddy.data import geometry
from teddy.runtime import seeding

DSA_DRAWS = 3
"""How many uniforms an operation gets per image."""


@dataclass(frozen=True)
class DsaStrengths:
    """How far the operations reach; the defaults are the published ones for every small dataset.

    Attributes:
        flip: chance of a horizontal flip.
        scale: the largest zoom, in and out, drawn for each axis by itself.
        rotate: largest angle, degrees.
        crop: largest shift as a share of the side.
        cutout: side of the square as a share of the image's.
        brightness: width of the interval, around 0, of the added constant.
        saturation: largest factor on the distance to grey; the smallest is 0.
        contrast: smallest factor on the distance to the mean; the largest is 1 more.
    """

    flip: float = 0.5
    scale: float = 1.2
    rotate: float = 15.0
    crop: float = 0.125
    cutout: float = 0.5
    brightness: float = 1.0
    saturation: float = 2.0
    contrast: float = 0.5


def color(images: torch.Tensor, uniforms: np.ndarray, strengths: DsaStrengths) -> torch.Tensor:
    """Brightness, saturation and contrast, one after the other, each with its own uniform.

    With u in [0, 1): ``x + b * (u - 1/2)``; ``g + s * u * (x - g)`` around the grey image g, the mean over
    channels; ``m + (u + c) * (x - m)`` around the image's mean m. An image with one channel is its own grey.
    """
    brighten, saturate, contrast = (_per_image(uniforms[:, i], images) for i in range(3))
    images = images + strengths.brightness * (brighten - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + strengths.saturation * saturate * (images - grey)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (contrast + strengths.contrast) * (images - mean)


def crop(images: torch.Tensor, uniforms: np.ndarray, strengths: DsaStrengths) -> torch.Tensor:
    """A shift by whole pixels along both axes, with zeros coming in."""
    reach = int(images.shape[-1] * strengths.crop + 0.5)
    offsets = np.floor(uniforms[:, :2] * (2 * reach + 1)).astype(np.int64)
    return geometry.padded_crop(images, torch.from_numpy(offsets), reach)


def cutout(images: torch.Tensor, uniforms: np.ndarray, strengths: DsaStrengths) -> torch.Tensor:
    """Zeros in a square whose centre lies anywhere in the image; what sticks out is cut off."""
    hidden = torch.ones((), device=images.device, dtype=torch.bool)
    for axis, draw in ((2, 0), (3, 1)):
        length = images.shape[axis]
        side = int(length * strengths.cutout + 0.5)
        # An even square has one more place where it is centred: between the last pixel and the border.
        centre = np.floor(uniforms[:, draw] * (length + 1 - side % 2)).astype(np.int64)
        first = torch.from_numpy(centre - side // 2).to(images.device, non_blocking=True)[:, None]
        pixels = torch.arange(length, device=images.device)
        covered = (pixels >= first) & (pixels < first + side)
        hidden = hidden & covered.view(len(images), *(length if i == axis else 1 for i in (1, 2, 3)))
    return images.masked_fill(hidden, 0.0)


def flip(images: torch.Tensor, uniforms: np.ndarray, strengths: DsaStrengths) -> torch.Tensor:
    """A horizontal flip of each image with the given chance."""
    return geometry.flip(images, torch.from_numpy(uniforms[:, 0] < strengths.flip))


def scale(images: torch.Tensor, uniforms: np.ndarray, strengths: DsaStrengths) -> torch.Tensor:
    """Zooms each axis about the centre by a factor between 1 / scale and scale."""
    low, high = 1 / strengths.scale, strengths.scale
    factors = low + (high - low) * uniforms[:, :2]
    zero = np.zeros(len(images))
    return _affine(images, np.stack([factors[:, 0], zero, zero, factors[:, 1]], axis=1))


def rotate(images: torch.Tensor, uniforms: np.ndarray, strengths: DsaStrengths) -> torch.Tensor:
    """Turns about the centre by up to ``rotate`` degrees either way."""
    angle = math.radians(strengths.rotate) * (2 * uniforms[:, 0] - 1)
    cosine, sine = np.cos(angle), np.sin(angle)
    return _affine(images, np.stack([cosine, -sine, sine, cosine], axis=1))


OPERATIONS: dict[str, Callable[[torch.Tensor, np.ndarray, DsaStrengths], torch.Tensor]] = {
    "color": color,
    "crop": crop,
    "cutout": cutout,
    "flip": flip,
    "scale": scale,
    "rotate": rotate,
}
"""The strategy color_crop_cutout_flip_scale_rotate; each takes images and uniforms (B, DSA_DRAWS)."""


def dsa(images: torch.Tensor, *seed_keys: seeding.Key, strengths: DsaStrengths | None = None) -> torch.Tensor:
    """One operation on a batch (B, C, H, W) of normalised images, the same whenever the keys are.

    Args:
        seed_keys: what the draw is for, such as (seed, "dsa", epoch, batch index).
    """
    names = list(OPERATIONS)
    chosen = names[int(seeding.uniform(*seed_keys, "operation")[0, 0] * len(names))]
    uniforms = seeding.uniform(*seed_keys, "strength", samples=np.arange(len(images)), draws=DSA_DRAWS)
    return OPERATIONS[chosen](images, uniforms, strengths or DsaStrengths())


def _per_image(values: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(values).to(device=like.device, dtype=like.dtype, non_blocking=True).view(-1, 1, 1, 1)


def _affine(images: torch.Tensor, matrices: np.ndarray) -> torch.Tensor:
    """Samples at linearly mapped positions about the centre; ``matrices`` (B, 4) row-major, zeros outside."""
    linear = torch.from_numpy(matrices).to(device=images.device, dtype=images.dtype, non_blocking=True).view(-1, 2, 2)
    maps = torch.cat([linear, torch.zeros_like(linear[:, :, :1])], dim=2)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
