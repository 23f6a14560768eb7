"""The base class of methods that optimise pixels; the engine (:mod:`teddy.synthesis.engine`) drives it.

A method says which images are optimised together, how a step leaves gradients in ``.grad``, and what a killed run must find
again. The engine does the rest: initialisation, optimizer steps, schedule, clamp to the pixel range, named terms to curves,
snapshots, resume, and blocks dealt to processes.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from teddy.artifacts.store import Outlook
from teddy.config.types import Count
from teddy.data.spec import DatasetSpec
from teddy.data.tiles import check_tiles, enlarge_tiles
from teddy.runtime.device import DeviceConfig
from teddy.runtime.progress import counted
from teddy.synthesis.blocks import Block, make_blocks, make_groups
from teddy.synthesis.engine import optimise
from teddy.synthesis.method import Inputs, Method, Run, SyntheticSet, later
from teddy.synthesis.views import BlockView


@dataclass
class State:
    """A group of blocks while it is optimised; a method may subclass it to hold more."""

    blocks: Sequence[Block]  # of one size
    pixels: nn.Parameter  # of all blocks, one after the other, normalised (N, C, H, W), float32 on the device
    labels: torch.Tensor  # class of each of the images below (N * tiles^2,)
    seed: int
    shared: Any  # what OptimizedMethod.prepare returned
    tiles: int

    @property
    def images(self) -> torch.Tensor:
        """What networks see before augmentation (N * tiles^2, C, H, W): the pixels, or their enlarged tiles."""
        with torch.autocast(self.pixels.device.type, enabled=False):
            return enlarge_tiles(self.pixels, self.tiles)


@dataclass(frozen=True, kw_only=True)
class OptimizedMethod(Method):
    """A method that optimises pixels by gradient steps."""

    iterations: Count  # of each block
    initial: str = "real"  # or noise
    batch_size: Count | None = None  # images of a block; None: all images are one block
    blocks_at_once: Count = 1  # side by side, to fill a large device; changes rounding only
    tiles: Count = later(1)  # of SyntheticSet; multi-formation (IDC, Kim et al., ICML 2022)

    def check_data(self, spec: DatasetSpec) -> None:
        check_tiles(spec.size, self.tiles)

    def groups(self, spec: DatasetSpec) -> list[list[Block]]:
        """All blocks in groups, the same for any number of processes."""
        batch_size = self.batch_size or spec.num_classes * self.ipc
        return make_groups(make_blocks(spec.num_classes, self.ipc, batch_size), self.blocks_at_once)

    def prepare(self, inputs: Inputs, device_config: DeviceConfig) -> Any:
        """Load what all blocks share, such as teachers on the device; called once per process."""
        return None

    def setup(self, state: State) -> State:
        """Add what a group of blocks needs besides its pixels, such as an inner network; called once per group.

        Random numbers must be keyed by ``state.seed`` and the blocks' indices.
        """
        return state

    @abstractmethod
    def optimizer(self, state: State) -> torch.optim.Optimizer:
        """The optimizer of the pixels, and of whatever else is learned."""

    def lr_factor(self, iteration: int) -> float:
        """Factor on all learning rates in an iteration; 1 unless a method says otherwise."""
        return 1.0

    @abstractmethod
    def step(self, state: State, iteration: int) -> dict[str, torch.Tensor]:
        """Leave the iteration's gradients in ``.grad`` of everything that is optimised.

        Called under the run's autocast; gradients are None before. Random numbers must be keyed by the iteration. Returned are
        named terms, detached, each a scalar or one value per block (blocks,), of which the first is shown as the loss.
        """

    def tensors(self, state: State) -> dict[str, torch.Tensor]:
        """What changes in a step besides pixels and optimizer: saved, and copied back in place when a killed run is resumed."""
        return {}

    def facts(self, state: State) -> dict[str, Any]:
        """What is known after the last step, for the manifest of the set, such as a learned learning rate."""
        return {}

    def result(self, state: State) -> torch.Tensor:
        """The images after the last step, normalised (N, C, H, W): the pixels unless a method says otherwise."""
        return state.pixels.detach()

    def outlook(self, name: str, spec: DatasetSpec) -> Outlook:
        groups = self.groups(spec)
        images = sum(len(block) for group in groups for block in group) * self.tiles**2
        known, label = super().outlook(name, spec), "synthesis"
        what = f"{known.what}, {counted(self.iterations, 'iteration')} of {counted(sum(map(len, groups)), 'block')}"
        return replace(
            known, what=what, label=label, units=len(groups) * self.iterations, passes=self.iterations * images
        )

    def synthesize(self, inputs: Inputs, run: Run) -> SyntheticSet:
        return optimise(self, inputs, run)


def cosine(iteration: int, iterations: int) -> float:
    """Cosine schedule from 1 at the first iteration towards 0 after the last."""
    return 0.5 * (1 + math.cos(math.pi * iteration / iterations))


def views_of(view: BlockView, state: State, iteration: int) -> torch.Tensor:
    """Each block's own view in an iteration, (N, C, H, W), float32; differentiable with respect to the pixels."""
    with torch.autocast(state.pixels.device.type, enabled=False):
        parts = zip(state.blocks, state.images.chunk(len(state.blocks)), strict=True)
        views = [view(part, state.seed, block.index, iteration) for block, part in parts]
    return (views[0] if len(views) == 1 else torch.cat(views)).contiguous(memory_format=torch.channels_last)
