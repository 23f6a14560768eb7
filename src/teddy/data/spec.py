"""The facts that travel with a dataset: classes, image size and normalisation."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import torch

from teddy.data.whitening import Whitening


@dataclass(frozen=True)
class DatasetSpec:
    """The facts about a dataset that do not depend on its images."""

    name: str
    num_classes: int
    channels: int
    size: int  # height and width in pixels
    mean: tuple[float, ...]  # of each channel of the training images, in [0, 1] units
    std: tuple[float, ...]  # likewise
    class_names: tuple[str, ...]  # for people, by class index
    class_ids: tuple[str, ...]  # folder names, whose sorted order is the index order (WordNet ids for ImageNet)
    whitening: Whitening | None = field(default=None, compare=False, repr=False)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Map uint8 images (N, C, H, W) to float32 in normalised space: ``(x / 255 - mean) / std``, and whitened."""
        unit = images.float() / 255  # new memory, so that the rest can be done in place
        unit = unit.sub_(_column(self.mean, images.device)).div_(_column(self.std, images.device))
        return unit if self.whitening is None else self.whitening(unit)

    def denormalise(self, images: torch.Tensor) -> torch.Tensor:
        """Map normalised images (N, C, H, W) to uint8, rounded to the nearest level and clamped to 0..255."""
        images = images if self.whitening is None else self.whitening.undo(images.float())
        unit = images.float() * _column(self.std, images.device) + _column(self.mean, images.device)
        return (unit * 255).round().clamp(0, 255).to(torch.uint8)

    def pixel_bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the normalised values of black and white, each (C, 1, 1): the valid range of distilled pixels.

        Whitened pixels have none: what becomes darker than black or brighter than white is cut off in :meth:`denormalise`.
        """
        if self.whitening is not None:
            infinite = torch.full((self.channels, 1, 1), torch.inf)
            return -infinite, infinite
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return (-mean / std).view(-1, 1, 1), ((1 - mean) / std).view(-1, 1, 1)


@cache
def _column(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Copy one float32 number per channel to the device, (C, 1, 1), once, because a copy to a GPU waits for its pending work."""
    with torch.inference_mode(False):  # a later caller may need gradients
        return torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)
