"""The random view of a block in one iteration of synthesis: crop, flip and shift (silent in the paper)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from teddy.config.types import Area, Shift
from teddy.data import geometry
from teddy.runtime import seeding


@dataclass(frozen=True)
class BlockView:
    """The random view that all images of a block share."""

    crop: bool  # a random part, scaled to the size of the image
    min_scale: Area  # smallest area of that part as a share of the image
    flip: bool  # with probability one half
    shift: Shift  # at most so many pixels in both directions; what leaves on one side comes in on the other

    def __call__(self, images: torch.Tensor, *keys: int | str) -> torch.Tensor:
        """The view of ``images`` (N, C, H, W) that ``keys`` name; differentiable."""
        draws = seeding.uniform("view", *keys, samples=np.arange(1), draws=geometry.CROP_DRAWS + 3)
        size = images.shape[-1]
        if self.crop:
            box = geometry.crop_boxes(draws[:, 3:], size, size, self.min_scale)[0]
            images = geometry.shared_crop(images, box, size)
        if self.flip and draws[0, 0] < 0.5:
            images = images.flip(-1)
        if self.shift:
            down, right = np.floor(draws[0, 1:3] * (2 * self.shift + 1)).astype(int) - self.shift
            images = images.roll((int(down), int(right)), dims=(-2, -1))
        return images
