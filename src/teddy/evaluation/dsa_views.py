"""The views of a protocol that augments by DSA."""

from __future__ import annotations

import torch

from teddy.data.dsa import dsa
from teddy.data.spec import DatasetSpec
from teddy.labels.mixing import MIX_DRAWS, cutmix
from teddy.labels.views import Views, ViewSource
from teddy.runtime import seeding


class DsaViews(ViewSource):
    """Distilled images under differentiable Siamese augmentation, and CutMix within a share of the batches."""

    def __init__(self, images: torch.Tensor, spec: DatasetSpec, seed: int, strategy: str, mix_share: float = 0) -> None:
        super().__init__(images, spec, seed)
        self.strategy, self.mix_share = strategy, mix_share

    def __call__(self, epoch: int, indices: torch.Tensor) -> Views:
        chosen = indices.to(self.images.device, non_blocking=True)
        # The DC family draws one operation per batch; its first image names a batch.
        keys = self.seed, "dsa", epoch, int(indices[0])
        views = dsa(self.spec.normalise(self.images[chosen]), *keys, strategy=self.strategy)
        if seeding.uniform(*keys, "cutmix")[0, 0] >= self.mix_share:
            return Views(views, chosen, torch.ones(len(chosen), device=chosen.device))
        partner = torch.from_numpy(seeding.permutation(len(chosen), *keys, "partners")).to(chosen.device)
        uniforms = seeding.uniform(*keys, "mix", samples=indices.cpu().numpy(), draws=MIX_DRAWS)
        mixed, keep = cutmix(views, views[partner], uniforms, alpha=1.0)
        return Views(mixed, chosen[partner], keep)
