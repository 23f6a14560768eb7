"""Augmentation of teacher training: a random crop and a flip, for a whole batch at once on its device; and DSA.

The random numbers of an image depend on its own index and the epoch only, not on batch size, workers or devices. DSA draws one
operation for a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from teddy.data import geometry
from teddy.data.images import DecodedImages
from teddy.runtime.seeding import uniform


@dataclass(frozen=True)
class Augmentation:
    """Random crop, horizontal flip, and DSA after them."""

    crop: str = "none"  # "padded" as RandomCrop(size, padding), "resized" as RandomResizedCrop(size, (min_scale, 1))
    padding: int = 0  # pixels, black
    min_scale: float = 1.0  # a share of the image's area
    flip: bool = False
    dsa: str = "none"  # or a strategy, as students of hard labels are trained with

    def apply(self, images: torch.Tensor, indices: torch.Tensor, seed: int, epoch: int, cropped: bool) -> torch.Tensor:
        """Crop and flip images (n, C, H, W) of levels 0..255, uint8 or float; ``cropped``: ``crop_decoded`` has cropped them.

        Their ``indices`` in the training set (n,), on the CPU, name their random numbers.
        """
        draws = self._crop_draws(indices, seed, epoch)
        if self.crop == "padded":
            offsets = np.floor(draws[:, :2] * (2 * self.padding + 1)).astype(np.int64)
            images = geometry.padded_crop(images, torch.from_numpy(offsets), self.padding)
        elif self.crop == "resized" and not cropped:
            size = images.shape[-1]
            images = geometry.resized_crop(images.float(), geometry.crop_boxes(draws, size, size, self.min_scale), size)
        if self.flip:
            mask = uniform(seed, "augment", epoch, "flip", samples=indices.numpy())[:, 0] < 0.5
            images = geometry.flip(images, torch.from_numpy(mask))
        return images

    def crop_decoded(self, images: DecodedImages, indices: torch.Tensor, seed: int, epoch: int) -> torch.Tensor:
        """Cut random resized crops out of the undistorted images, uint8 (n, C, size, size)."""
        crops = []
        for index, draws in zip(indices.tolist(), self._crop_draws(indices, seed, epoch), strict=True):
            image = images.open(index)
            boxes = geometry.crop_boxes(draws[None], image.height, image.width, self.min_scale)
            crops.append(images.crop(image, *boxes[0].tolist()))
        return torch.stack(crops)

    def _crop_draws(self, indices: torch.Tensor, seed: int, epoch: int) -> np.ndarray:
        return uniform(seed, "augment", epoch, samples=indices.numpy(), draws=geometry.CROP_DRAWS)
