"""What a block starts from: noise, or real images of its classes."""

from __future__ import annotations

from collections.abc import Callable

import torch

from teddy.data.images import ImageSet
from teddy.data.spec import DatasetSpec
from teddy.runtime import seeding
from teddy.synthesis.blocks import Block


def random_images(train: ImageSet, num_classes: int, ipc: int, seed: int) -> torch.Tensor:
    """Indices of ``ipc`` different random training images of each class, (num_classes, ipc).

    A class with fewer images than ``ipc`` starts over. The first images of a larger ``ipc`` are those of a smaller one.
    """
    rows = []
    for label in range(num_classes):
        members = torch.nonzero(train.labels == label).flatten()
        order = torch.from_numpy(seeding.permutation(len(members), seed, "random images", label))
        rows.append(members[order[torch.arange(ipc) % len(order)]])
    return torch.stack(rows)


def real(block: Block, spec: DatasetSpec, train: ImageSet, ipc: int, seed: int) -> torch.Tensor:
    """Real training images of the block's classes, normalised (N, C, H, W)."""
    chosen = random_images(train, spec.num_classes, ipc, seed)
    return spec.normalise(train.take(chosen[list(block.classes), list(block.slots)]))


def noise(block: Block, spec: DatasetSpec, train: ImageSet, ipc: int, seed: int) -> torch.Tensor:
    """Standard normal noise in normalised space (N, C, H, W), as SRe2L; each image by its own class and slot."""
    shape = (spec.channels, spec.size, spec.size)
    draws = [
        torch.randn(shape, generator=seeding.generator(seed, "noise", label, slot))
        for label, slot in zip(block.classes, block.slots, strict=True)
    ]
    return torch.stack(draws)


Initial = Callable[[Block, DatasetSpec, ImageSet, int, int], torch.Tensor]
INITIAL: dict[str, Initial] = {"noise": noise, "real": real}
