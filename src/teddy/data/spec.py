"""What travels with a dataset: classes, image size and the normalisation that every other part relies on."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class DatasetSpec:
    """The facts about a dataset that do not depend on its images.

    Attributes:
        size: height and width in pixels (square images).
        mean: per-channel mean of the training images in [0, 1] units.
        std: per-channel standard deviation in [0, 1] units.
        class_names: what people call the classes, by class index.
        class_ids: folder names of the classes; their sorted order is the index order (WNIDs for ImageNet).
    """

    name: str
    num_classes: int
    channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    class_ids: tuple[str, ...]

    def _column(self, values: tuple[float, ...], like: torch.Tensor) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=like.device).view(-1, 1, 1)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 images (N, C, H, W) to float32 in normalised space: ``(x / 255 - mean) / std``."""
        return (images.float() / 255 - self._column(self.mean, images)) / self._column(self.std, images)

    def denormalise(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, C, H, W) to uint8, rounded to the nearest level and clamped to 0..255."""
        unit = images.float() * self._column(self.std, images) + self._column(self.mean, images)
        return (unit * 255).round().clamp(0, 255).to(torch.uint8)

    def pixel_bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The normalised values of black and white, each (C, 1, 1): the valid pixel range that synthesis clamps to."""
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return (-mean / std).view(-1, 1, 1), ((1 - mean) / std).view(-1, 1, 1)
