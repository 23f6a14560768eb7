"""The random view of a block that the teachers see in one iteration (SRe2L's crop, flip and shift; silent in the paper)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from teddy.data import geometry
from teddy.runtime import seeding


@dataclass(frozen=True)
class BlockView:
    """How a block is looked at.

    Attributes:
        crop: random resized crop of at least ``min_scale`` of the area.
        shift: largest shift in pixels, in both directions, what leaves on one side coming in on the other.
        per_image: each image has its own view; else one view is shared by the block, as in SRe2L.
    """

    crop: bool
    min_scale: float
    flip: bool
    shift: int
    per_image: bool

    def __call__(self, images: torch.Tensor, *keys: int | str) -> torch.Tensor:
        """The view of ``images`` (N, C, H, W) that ``keys`` name; differentiable."""
        count = len(images) if self.per_image else 1
        draws = seeding.uniform("view", *keys, samples=np.arange(count), draws=geometry.CROP_DRAWS + 3)
        size = images.shape[-1]
        if self.crop:
            boxes = geometry.crop_boxes(draws[:, 3:], size, size, self.min_scale)
            images = (
                geometry.resized_crop(images, boxes, size)
                if self.per_image
                else geometry.shared_crop(images, boxes[0], size)
            )
        if self.flip:
            mirrored = torch.from_numpy(draws[:, 0] < 0.5)
            images = geometry.flip(images, mirrored.expand(len(images)))
        if self.shift:
            shifts = np.floor(draws[:, 1:3] * (2 * self.shift + 1)).astype(int) - self.shift
            if self.per_image:
                rolled = [geometry.roll(image[None], *map(int, by)) for image, by in zip(images, shifts, strict=True)]
                images = torch.cat(rolled)
            else:
                images = geometry.roll(images, *map(int, shifts[0]))
        return images
