"""Random real images made worse in a known way: the low end of a scale of sets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from teddy.methods.random import Random
from teddy.runtime import seeding
from teddy.synthesis.method import Inputs, Run, SyntheticSet


@dataclass(frozen=True, kw_only=True)
class Degraded(Random):
    """Random real images, blurred and noised."""

    blur: int = 1  # side of the squares that each channel is averaged over; divides the size of the images
    noise: float = 0.0  # standard deviation, of the range from black to white

    def synthesize(self, inputs: Inputs, run: Run) -> SyntheticSet:
        real = super().synthesize(inputs, run)
        pixels = F.avg_pool2d(real.images.float() / 255, self.blur).repeat_interleave(self.blur, 2)
        pixels = pixels.repeat_interleave(self.blur, 3)
        pixels += self.noise * torch.randn(pixels.shape, generator=seeding.generator(run.seed, "degraded"))
        return SyntheticSet((255 * pixels).round().clamp(0, 255).to(torch.uint8), real.labels)
