"""Views: the crops, flips and mixes of distilled images that teachers label and students learn from.

A view is a pure function of (seed, epoch, image), so labels can be computed or stored in any order and on any device. FKD draws
one mixing ratio, one box and one permutation per *batch*, which ties training to the batch size and order of labelling. Here each
image has its own ratio and box, and its partner comes from a new permutation of the whole distilled set in every epoch. The
marginal distribution of a view is FKD's; only the coupling within a batch is gone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from teddy.config.types import Area, Positive
from teddy.data import geometry
from teddy.data.spec import DatasetSpec
from teddy.labels.mixing import MIX_DRAWS, cutmix
from teddy.runtime import seeding

KEPT_BYTES = 1 << 28  # largest size in bytes of an epoch's views that are kept for the whole epoch


@dataclass(frozen=True)
class ViewRecipe:
    """How a view is made."""

    min_scale: Area = 0.08  # of the random resized crop, as a share of the area
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5  # probability
    mix: Annotated[str, Field(pattern="^(cutmix|none)$")] = "cutmix"
    alpha: Positive = 1.0  # of Beta(alpha, alpha), from which the mixing ratio is drawn


@dataclass(frozen=True)
class Views:
    """A batch of views."""

    images: torch.Tensor  # normalised, float32 (B, C, H, W)
    partner: torch.Tensor  # index in the whole set of the image that was mixed in (B,); without a mix the image's own
    keep: torch.Tensor  # share of the view that is the image's own, float32 (B,)


class ViewSource(ABC):
    """The images that a student sees, made from the exported ones, uint8 (N, C, H, W), on their device."""

    def __init__(self, images: torch.Tensor, spec: DatasetSpec, seed: int) -> None:
        self.images, self.spec, self.seed = images, spec, seed

    @abstractmethod
    def __call__(self, epoch: int, indices: torch.Tensor) -> Views:
        """Make the views of the images ``indices`` (B,) in ``epoch``."""


class ViewMaker(ViewSource):
    """Crops, flips and mixes of a distilled set, in which a row depends on seed, epoch and its own index only.

    The views of a small set are made once in an epoch, for teachers and students.
    """

    def __init__(self, images: torch.Tensor, spec: DatasetSpec, recipe: ViewRecipe, seed: int) -> None:
        super().__init__(images, spec, seed)
        self.recipe = recipe
        self._kept: tuple[int, Views] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __call__(self, epoch: int, indices: torch.Tensor) -> Views:
        if 4 * len(self) * self.spec.channels * self.spec.size**2 > KEPT_BYTES:
            return self._make(epoch, indices.cpu().numpy())
        if self._kept is None or self._kept[0] != epoch:
            self._kept = epoch, self._make(epoch, np.arange(len(self)))
        views, rows = self._kept[1], indices.to(self.images.device, non_blocking=True)
        return Views(views.images[rows], views.partner[rows], views.keep[rows])

    def _make(self, epoch: int, samples: np.ndarray) -> Views:
        device, count = self.images.device, len(samples)
        if self.recipe.mix == "none":
            own = torch.from_numpy(samples).to(device, non_blocking=True)
            return Views(self._crop(epoch, samples), own, torch.ones(count, device=device))
        partner = _partners(len(self), self.seed, epoch)[samples]
        # The partner's own view of this epoch is mixed in, as when a batch is cropped first and mixed then.
        needed, rows = np.unique(np.concatenate([samples, partner]), return_inverse=True)
        crops = self._crop(epoch, needed)[torch.from_numpy(rows).to(device, non_blocking=True)]
        uniforms = seeding.uniform(self.seed, "views", "mix", epoch, samples=samples, draws=MIX_DRAWS)
        mixed, keep = cutmix(crops[:count], crops[count:], uniforms, self.recipe.alpha)
        return Views(mixed, torch.from_numpy(partner).to(device, non_blocking=True), keep)

    def _crop(self, epoch: int, samples: np.ndarray) -> torch.Tensor:
        """Cropped, flipped and normalised images before mixing, float32 (B, C, H, W)."""
        uniforms = seeding.uniform(self.seed, "views", "crop", epoch, samples=samples, draws=geometry.CROP_DRAWS + 1)
        height, width = self.images.shape[-2:]
        boxes = geometry.crop_boxes(uniforms[:, :-1], height, width, self.recipe.min_scale)
        picked = self.images[torch.from_numpy(samples).to(self.images.device, non_blocking=True)]
        views = geometry.resized_crop(self.spec.normalise(picked), boxes, self.spec.size)
        return geometry.flip(views, torch.from_numpy(uniforms[:, -1] < self.recipe.flip))


@lru_cache(maxsize=1)
def _partners(count: int, seed: int, epoch: int) -> np.ndarray:
    """Permutation (count,): the indices of the images that are mixed in; kept for the epoch's next batch."""
    return seeding.permutation(count, seed, "views", "partners", epoch)
