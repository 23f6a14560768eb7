"""The views of a protocol that augments by DSA."""

from __future__ import annotations

import torch

from teddy.data.dsa import dsa
from teddy.labels.views import Views, ViewSource


class DsaViews(ViewSource):
    """Distilled images under differentiable Siamese augmentation; each keeps its own label."""

    def __call__(self, epoch: int, indices: torch.Tensor) -> Views:
        chosen = indices.to(self.images.device, non_blocking=True)
        # The DC family draws one operation per batch; its first image names a batch.
        views = dsa(self.spec.normalise(self.images[chosen]), self.seed, "dsa", epoch, int(indices[0]))
        return Views(views, chosen, torch.ones(len(chosen), device=chosen.device))
