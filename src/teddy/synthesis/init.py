"""The start of the optimisation: noise, or real images of the block's classes."""

from __future__ import annotations

from collections.abc import Callable

import torch

from teddy.data.images import ImageSet
from teddy.runtime import seeding
from teddy.synthesis.blocks import Block
from teddy.synthesis.method import Inputs


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


def real(block: Block, inputs: Inputs, ipc: int, seed: int) -> torch.Tensor:
    """Real training images of the block's classes, normalised (N, C, H, W)."""
    chosen = random_images(inputs.train, inputs.spec.num_classes, ipc, seed)
    return inputs.spec.normalise(inputs.train.take(chosen[list(block.classes), list(block.slots)]))


def noise(block: Block, inputs: Inputs, ipc: int, seed: int) -> torch.Tensor:
    """Standard normal noise in normalised space (N, C, H, W), drawn for each image by its class and slot."""
    shape = (inputs.spec.channels, inputs.spec.size, inputs.spec.size)
    draws = [
        torch.randn(shape, generator=seeding.generator(seed, "noise", label, slot))
        for label, slot in zip(block.classes, block.slots, strict=True)
    ]
    return torch.stack(draws)


INIT: dict[str, Callable[[Block, Inputs, int, int], torch.Tensor]] = {"noise": noise, "real": real}
"""By the word in ``synthesis.initial``."""
