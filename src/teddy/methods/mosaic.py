"""Un-optimised mosaic: shrunken real images, several in the place of one.

The multi-formation of IDC (Kim et al., ICML 2022) without its optimisation. What distilled mosaics are worth beyond these comes
from their pixels, not from the number of images that they hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from teddy.config.types import Count
from teddy.data.spec import DatasetSpec
from teddy.data.tiles import check_tiles, encode_tiles
from teddy.synthesis.init import random_images
from teddy.synthesis.method import Inputs, Method, Run, SyntheticSet


@dataclass(frozen=True, kw_only=True)
class Mosaic(Method):
    """IPC images of each class, each of ``tiles`` x ``tiles`` random training images; students see each tile enlarged."""

    tiles: Count

    citation: ClassVar[str] = (
        "Kim et al., Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML 2022"
    )

    def check_data(self, spec: DatasetSpec) -> None:
        check_tiles(spec.size, self.tiles)

    def synthesize(self, inputs: Inputs, run: Run) -> SyntheticSet:
        classes = torch.arange(inputs.spec.num_classes)
        chosen = random_images(inputs.train, classes.tolist(), self.tiles**2 * self.ipc, run.seed)
        images = torch.cat([encode_tiles(inputs.train.take(own), self.tiles) for own in chosen])
        return SyntheticSet(images, classes.repeat_interleave(self.ipc), tiles=self.tiles)
