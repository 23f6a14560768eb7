"""What teacher training does to real images: a random crop and a flip, for a whole batch at once on its
device.

Each image draws from its own index and the epoch only, so neither the batch size nor the number of workers or
devices matters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from teddy.config.errors import BadInput
from teddy.data import geometry
from teddy.data.images import DecodedImages
from teddy.runtime.seeding import uniform


def _padded(augmentation: Augmentation, images: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
    offsets = torch.from_numpy(np.floor(draws[:, :2] * (2 * augmentation.padding + 1)).astype(np.int64))
    return geometry.padded_crop(images, offsets, augmentation.padding)


def _resized(augmentation: Augmentation, images: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
    height, width = images.shape[-2:]
    boxes = geometry.crop_boxes(draws, height, width, augmentation.min_scale)
    return geometry.resized_crop(images.float(), boxes, height)


def _none(augmentation: Augmentation, images: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
    return images


CROPS: dict[str, Callable[[Augmentation, torch.Tensor, np.ndarray], torch.Tensor]] = {
    "padded": _padded,
    "resized": _resized,
    "none": _none,
}


@dataclass(frozen=True)
class Augmentation:
    """Random crop and horizontal flip.

    Attributes:
        crop: "padded" (black border, then a window of the original size, as ``RandomCrop(size, padding)``),
            "resized" (as ``RandomResizedCrop(size, (min_scale, 1))``) or "none".
        padding: width of the border in pixels, for "padded".
        min_scale: smallest crop as a share of the image's area, for "resized".
        flip: mirror left and right with probability one half.
    """

    crop: str = "none"
    padding: int = 0
    min_scale: float = 1.0
    flip: bool = False

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise BadInput(f"dataset.augment.crop={self.crop} is unknown; choose one of {', '.join(CROPS)}.")
        if self.crop == "padded" and self.padding < 0:
            raise BadInput(f"dataset.augment.padding={self.padding} is negative; give a number of pixels.")
        if self.crop == "resized" and not 0 < self.min_scale <= 1:
            raise BadInput(
                f"dataset.augment.min_scale={self.min_scale} is no share; give a number above 0 and up to 1."
            )

    def apply(self, images: torch.Tensor, indices: torch.Tensor, seed: int, epoch: int, cropped: bool) -> torch.Tensor:
        """Crops and flips images (n, C, H, W) of levels 0..255; the result is uint8 or float of the same
        range.

        Args:
            indices: the images' places in the training set (n,), which name their random numbers; on the CPU.
            cropped: the crop has been made already, where the image was decoded (``crop_decoded``).
        """
        if not cropped:
            images = CROPS[self.crop](self, images, self._crop_draws(indices, seed, epoch))
        if self.flip:
            mask = uniform(seed, "augment", epoch, "flip", samples=indices.numpy())[:, 0] < 0.5
            images = geometry.flip(images, torch.from_numpy(mask))
        return images

    def crop_decoded(self, images: DecodedImages, indices: torch.Tensor, seed: int, epoch: int) -> torch.Tensor:
        """Random resized crops cut from the undistorted images, uint8 (n, C, size, size)."""
        crops = []
        for index, draws in zip(indices.tolist(), self._crop_draws(indices, seed, epoch), strict=True):
            image = images.open(index)
            top, left, height, width = geometry.crop_boxes(draws[None], image.height, image.width, self.min_scale)[
                0
            ].tolist()
            crops.append(images.crop(image, (top, left, height, width)))
        return torch.stack(crops)

    def _crop_draws(self, indices: torch.Tensor, seed: int, epoch: int) -> np.ndarray:
        return uniform(seed, "augment", epoch, samples=indices.numpy(), draws=geometry.CROP_DRAWS)
