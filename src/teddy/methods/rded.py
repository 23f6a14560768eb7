"""RDED (Sun et al., CVPR 2024): real patches that the pool finds easy, several in one image, without optimisation.

Of each candidate image the one of its random crops with the smallest cross-entropy is kept, and of a class's candidates those
with the smallest. RDED scores a crop at the size of a tile in a frame of the mean colour, by one teacher, and its crops are
squares; here a crop is scored at full size, by the mean over the pool, and has the aspect ratios of RandomResizedCrop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from teddy.config.errors import UserError
from teddy.config.types import Area, Count
from teddy.data.batches import Batch, class_batches
from teddy.data.geometry import CROP_DRAWS, crop_boxes, resized_crop
from teddy.data.spec import DatasetSpec
from teddy.data.tiles import encode_tiles
from teddy.runtime import seeding
from teddy.runtime.progress import StageProgress
from teddy.synthesis.init import first_of, shuffled_class
from teddy.synthesis.method import Inputs, Method, Needs, Run, SyntheticSet


@dataclass(frozen=True, kw_only=True)
class RDED(Method):
    """IPC images of each class, each of ``tiles`` x ``tiles`` patches; students see it as it is."""

    candidates: Count  # random images of each class that patches are cut from, at most
    crops: Count  # random ones of a candidate, the best of which is its patch
    min_scale: Area  # of a crop, as a share of the area
    tiles: Count

    citation: ClassVar[str] = (
        "Sun et al., On the Diversity and Realism of Distilled Dataset, CVPR 2024 (arXiv 2312.03526)"
    )

    def needs(self) -> Needs:
        return Needs(pool=True, data=True)

    def check(self, members: int | None) -> None:
        if self.candidates < (wanted := self.tiles**2 * self.ipc):
            raise UserError(
                f"methods.rded.candidates={self.candidates} are fewer than the {wanted} tiles of a class; set "
                f"methods.rded.candidates={wanted} or more."
            )

    @torch.no_grad()
    def synthesize(self, inputs: Inputs, run: Run) -> SyntheticSet:
        train, classes, config = inputs.train, torch.arange(inputs.spec.num_classes), run.device_config
        teachers = inputs.pool.load_teachers(config)
        candidates = [
            shuffled_class(train, label, run.seed, "candidates")[: self.candidates] for label in classes.tolist()
        ]
        made = []
        with StageProgress("patches", len(classes), "classes") as progress:
            for _, batches in class_batches(train, candidates, config.workers):
                with config.autocast():
                    found = [self.patches(batch, teachers, inputs.spec, config.device, run.seed) for batch in batches]
                patches, losses = (torch.cat(parts) for parts in zip(*found, strict=True))
                best = first_of(losses.argsort(stable=True), self.tiles**2 * self.ipc)
                # Every image has one patch of each quality, as in RDED.
                made.append(encode_tiles(patches[best.view(-1, self.ipc).T.flatten()], self.tiles))
                progress.advance()
        return SyntheticSet(torch.cat(made), classes.repeat_interleave(self.ipc))

    def patches(
        self, batch: Batch, teachers: list[nn.Module], spec: DatasetSpec, device: torch.device, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The best crop of each image at full size, uint8 (n, C, H, W), and its cross-entropy (n,); both on the CPU."""
        images, labels, indices = batch
        pixels, labels = spec.normalise(images.to(device)), labels.to(device)
        best, least = pixels, torch.full((len(pixels),), torch.inf, device=device)
        for crop in range(self.crops):
            uniforms = seeding.uniform(seed, "patches", crop, samples=indices.numpy(), draws=CROP_DRAWS)
            boxes = crop_boxes(uniforms, spec.size, spec.size, self.min_scale)
            views = resized_crop(pixels, boxes, spec.size).contiguous(memory_format=torch.channels_last)
            each = [F.cross_entropy(teacher(views).float(), labels, reduction="none") for teacher in teachers]
            loss = torch.stack(each).mean(0)
            best = torch.where((loss < least).view(-1, 1, 1, 1), views, best)
            least = torch.minimum(loss, least)
        return spec.denormalise(best).cpu(), least.cpu()
