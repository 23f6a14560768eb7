"""Views: the crops, flips and mixes of distilled images that teachers label and students learn from.

A view is a pure function of (seed, epoch, image), which is what lets labels be computed when they are needed,
stored, replayed in any order, or dealt to several devices. FKD, which SRe2L follows, draws one mixing ratio,
one box and one permutation per *batch* and has to record all of it; there a label belongs to a batch, and
training must use the batch size and order of labelling. Here each image has its own ratio and box, and its
partner comes from a permutation of the whole distilled set made anew in every epoch. The marginal
distribution of a view is FKD's; only the coupling within a batch is gone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from teddy.config.errors import BadInput
from teddy.data import geometry
from teddy.data.spec import DatasetSpec
from teddy.labels.mixing import MIX_DRAWS, MIXES
from teddy.runtime import seeding

KEPT_BYTES = 1 << 28
"""Largest size of an epoch's crops that are kept while the epoch lasts."""


@dataclass(frozen=True)
class ViewRecipe:
    """How a view is made.

    Attributes:
        min_scale: smallest area of the random resized crop as a share of the image.
        flip: chance of a horizontal flip.
        mix: "cutmix", "mixup" or "none".
        alpha: the mixing ratio is drawn from Beta(alpha, alpha).
    """

    min_scale: float = 0.08
    flip: float = 0.5
    mix: str = "cutmix"
    alpha: float = 1.0


@dataclass(frozen=True)
class Views:
    """A batch of views.

    Attributes:
        images: normalised, float32 (B, C, H, W).
        partner: index into the whole distilled set of the image that was mixed in, int64 (B,); the image's
          own without a mix.
        keep: share of the view that is the image's own, float32 (B,); 1 without a mix.
    """

    images: torch.Tensor
    partner: torch.Tensor
    keep: torch.Tensor


class ViewMaker:
    """Makes views of a distilled set, the same ones whenever it is asked again.

    Args:
        images: the exported 8-bit images, uint8 (N, C, H, W): what is evaluated is what is saved (invariant
          5).
        seed: the run's root seed.

    Raises:
        BadInput: the recipe names an unknown mix.
    """

    def __init__(self, images: torch.Tensor, spec: DatasetSpec, recipe: ViewRecipe, seed: int) -> None:
        if recipe.mix not in (*MIXES, "none"):
            raise BadInput(f"labels.mix={recipe.mix} is unknown; choose one of {', '.join(MIXES)}, none.")
        self.images = images
        self.spec = spec
        self.recipe = recipe
        self.seed = seed
        self._partners: tuple[int, np.ndarray] | None = None
        self._crops: tuple[int, torch.Tensor] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> ViewMaker:
        """Moves the images, and with them the making of views, to ``device``."""
        self.images, self._crops = self.images.to(device), None
        return self

    def __call__(self, epoch: int, indices: torch.Tensor) -> Views:
        """The views of the images ``indices`` (B,) in ``epoch``; a row depends on its own index only."""
        samples = indices.cpu().numpy()
        own = self._cropped(epoch, samples)
        if self.recipe.mix == "none":
            return Views(own, indices.to(own.device, non_blocking=True), torch.ones(len(samples), device=own.device))
        partner = self._partners_of(epoch)[samples]
        uniforms = seeding.uniform(self.seed, "views", "mix", epoch, samples=samples, draws=MIX_DRAWS)
        # The partner's own view of this epoch is mixed in, as when a batch is cropped first and mixed then.
        mix = MIXES[self.recipe.mix]
        mixed, keep = mix(own, self._cropped(epoch, partner), uniforms, self.recipe.alpha)
        return Views(mixed, torch.from_numpy(partner).to(own.device, non_blocking=True), keep)

    def _cropped(self, epoch: int, samples: np.ndarray) -> torch.Tensor:
        """Cropped, flipped and normalised images before mixing, float32 (B, C, H, W).

        Each is wanted twice in an epoch, as itself and as a partner, and by every student; a small set is cropped once for all.
        """
        if 4 * len(self) * self.spec.channels * self.spec.size**2 > KEPT_BYTES:
            return self._crop(epoch, samples)
        if self._crops is None or self._crops[0] != epoch:
            self._crops = epoch, self._crop(epoch, np.arange(len(self)))
        crops = self._crops[1]
        return crops[torch.from_numpy(samples).to(crops.device, non_blocking=True)]

    def _crop(self, epoch: int, samples: np.ndarray) -> torch.Tensor:
        uniforms = seeding.uniform(self.seed, "views", "crop", epoch, samples=samples, draws=geometry.CROP_DRAWS + 1)
        height, width = self.images.shape[-2:]
        boxes = geometry.crop_boxes(uniforms[:, :-1], height, width, self.recipe.min_scale)
        picked = self.images[torch.from_numpy(samples).to(self.images.device, non_blocking=True)]
        views = geometry.resized_crop(self.spec.normalise(picked), boxes, self.spec.size)
        return geometry.flip(views, torch.from_numpy(uniforms[:, -1] < self.recipe.flip))

    def _partners_of(self, epoch: int) -> np.ndarray:
        """Who is mixed into whom in ``epoch``: a permutation of the set (N,), kept for the next batch."""
        if self._partners is None or self._partners[0] != epoch:
            self._partners = epoch, seeding.permutation(len(self), self.seed, "views", "partners", epoch)
        return self._partners[1]
