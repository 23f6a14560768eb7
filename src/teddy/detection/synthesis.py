"""Synthesis of images for detectors: canvases with the objects of random real images, matched to an ensemble of detectors.

Eq. 7 with the losses of region proposals and of detections in place of the cross-entropy. The paper says no more than that its
method was applied (Sec. C.3).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from teddy.config.errors import UserError
from teddy.data.distilled import ANNOTATIONS
from teddy.data.spec import DatasetSpec
from teddy.detection.objects import Objects, Target, objects_of, write_coco
from teddy.methods.batchnorm import MeasuredTeacher
from teddy.methods.random import Random
from teddy.methods.teddy import Teddy, TeddyState, distance_at_once
from teddy.runtime.device import DeviceConfig
from teddy.runtime.distributed import is_leader
from teddy.runtime.seeding import seed_torch
from teddy.synthesis.init import random_images
from teddy.synthesis.method import Inputs, Method, Needs, Run, SyntheticSet
from teddy.synthesis.optimized import State
from teddy.synthesis.stage import IMAGES

FOLDER = "scenes"


class SceneInputs(Inputs):
    """Real images for methods whose IPC counts all images of a set."""

    @property
    def spec(self) -> DatasetSpec:
        return replace(super().spec, num_classes=1, class_names=("images",), class_ids=(FOLDER,))

    @property
    def names(self) -> tuple[str, ...]:
        return super().spec.class_names

    def objects(self, count: int, seed: int) -> list[Objects]:
        """The objects of the first ``count`` random real images, without difficult ones; those of "real" canvases are theirs."""
        chosen = random_images(self.train, [0], count, seed).flatten().tolist()
        return [objects_of(self.train, index).easy() for index in chosen]


@dataclass(frozen=True, kw_only=True)
class Annotated(Method):
    """A method whose images get the objects of random real images, which are written beside them."""

    def synthesize(self, inputs: Inputs, run: Run) -> SyntheticSet:
        assert isinstance(inputs, SceneInputs)
        if is_leader():
            files = [f"{FOLDER}/{number:04d}.png" for number in range(self.ipc)]
            objects = inputs.objects(self.ipc, run.seed)
            write_coco(run.folder / IMAGES / ANNOTATIONS, objects, files, inputs.spec.size, inputs.names)
        return super().synthesize(inputs, run)  # type: ignore[safe-super]


def detector_terms(
    teacher: MeasuredTeacher,
    targets: Sequence[Target],
    first_bn: float,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    blocks: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One detector's terms of Eq. 7 for the images of a block and their targets; ``labels`` say nothing of these images."""
    losses, layers = teacher(images, blocks, targets)
    return torch.stack(list(losses.values())).sum().expand(1), distance_at_once(layers, first_bn)


@dataclass(frozen=True, kw_only=True)
class RandomScenes(Annotated, Random):
    """Random real images with their own objects."""


@dataclass(frozen=True, kw_only=True)
class SceneMatching(Annotated, Teddy):
    """Teddy for detectors, and with one converged detector SRe2L."""

    def needs(self) -> Needs:
        return Needs(pool=True, data=True)

    def check(self, members: int | None) -> None:
        super().check(members)
        moves = self.view.crop or self.view.flip or self.view.shift
        if moves or self.balanced or self.compile or self.blocks_at_once > 1 or self.tiles > 1:
            raise UserError(
                "methods that match detectors leave the canvas as it is; set synthesis.view to {crop: false, flip: false, shift: "
                "0}, synthesis.compile=false and synthesis.blocks_at_once=1, and leave out what is for classes or tiles."
            )

    def prepare(self, inputs: Inputs, device_config: DeviceConfig) -> Any:
        pool, device = inputs.pool, device_config.device
        return inputs, [MeasuredTeacher(pool.load(index, device)) for index in range(len(pool))]

    def setup(self, state: State) -> TeddyState:
        """Bind the teachers' losses to the objects of the block's canvases."""
        (block,), (inputs, teachers) = state.blocks, state.shared
        objects = inputs.objects(self.ipc, state.seed)
        targets = [objects[slot].target(state.pixels.device) for slot in block.slots]
        losses = [functools.partial(detector_terms, teacher, targets, self.first_bn_weight) for teacher in teachers]
        return super().setup(replace(state, shared=losses))

    def step(self, state: State, iteration: int) -> dict[str, torch.Tensor]:
        seed_torch(state.seed, "sampled anchors", state.blocks[0].index, iteration)
        terms = super().step(state, iteration)
        return {"loss": terms["loss"], "detection": terms["cross_entropy"], "bn_statistics": terms["bn_statistics"]}
