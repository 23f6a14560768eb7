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
        return self._one_each(images, draws) if self.per_image else self._shared(images, draws)

    def _shared(self, images: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
        size = images.shape[-1]
        if self.crop:
            images = geometry.shared_crop(images, self._boxes(draws, size)[0], size)
        if self.flip and draws[0, 0] < 0.5:
            images = images.flip(-1)
        down, right = self._shifts(draws)[0]
        return geometry.roll(images, int(down), int(right)) if self.shift else images

    def _one_each(self, images: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
        size = images.shape[-1]
        if self.crop:
            images = geometry.resized_crop(images, self._boxes(draws, size), size)
        if self.flip:
            images = geometry.flip(images, torch.from_numpy(draws[:, 0] < 0.5))
        if self.shift:
            shifts = zip(images, self._shifts(draws), strict=True)
            images = torch.cat([geometry.roll(image[None], int(down), int(right)) for image, (down, right) in shifts])
        return images

    def _boxes(self, draws: np.ndarray, size: int) -> torch.Tensor:
        return geometry.crop_boxes(draws[:, 3:], size, size, self.min_scale)

    def _shifts(self, draws: np.ndarray) -> np.ndarray:
        return np.floor(draws[:, 1:3] * (2 * self.shift + 1)).astype(int) - self.shift
