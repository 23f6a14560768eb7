"""Random real images: the baseline of every results table (invariant 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from teddy.synthesis.init import random_images
from teddy.synthesis.method import Inputs, Method, Run, SyntheticSet


@dataclass(frozen=True, kw_only=True)
class Random(Method):
    """IPC random training images of each class, as they are."""

    baseline: ClassVar[bool] = True

    def synthesize(self, inputs: Inputs, run: Run) -> SyntheticSet:
        chosen = random_images(inputs.train, range(inputs.spec.num_classes), self.ipc, run.seed).flatten()
        return SyntheticSet(inputs.train.take(chosen), inputs.train.labels[chosen])
