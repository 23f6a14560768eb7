"""The start of the optimisation: noise, or real images of the block's classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from teddy.data.images import ImageSet
from teddy.data.tiles import encode_tiles
from teddy.runtime import seeding
from teddy.synthesis.blocks import Block
from teddy.synthesis.method import Inputs


def class_members(train: ImageSet, label: int) -> torch.Tensor:
    """Indices of all training images of a class (n,), ascending."""
    return torch.nonzero(train.labels == label).flatten()


def first_of(members: torch.Tensor, count: int) -> torch.Tensor:
    """The first ``count`` members (count,); fewer than that start over."""
    return members[torch.arange(count) % len(members)]


def shuffled_class(train: ImageSet, label: int, seed: int, purpose: str, *keys: seeding.Key) -> torch.Tensor:
    """Indices of all training images of a class (n,), in a random order of their own for each purpose and further keys."""
    members = class_members(train, label)
    return members[torch.from_numpy(seeding.permutation(len(members), seed, purpose, label, *keys))]


def random_images(train: ImageSet, classes: Sequence[int], ipc: int, seed: int) -> torch.Tensor:
    """Indices of ``ipc`` different random training images of each of some classes, (len(classes), ipc).

    A class with fewer images than ``ipc`` starts over. The first images of a larger ``ipc`` are those of a smaller one.
    """
    shuffled = [shuffled_class(train, label, seed, "random images") for label in classes]
    return torch.stack([first_of(members, ipc) for members in shuffled])


def real(block: Block, inputs: Inputs, ipc: int, seed: int, tiles: int = 1) -> torch.Tensor:
    """Real training images of the block's classes, or mosaics of ``tiles`` x ``tiles`` of them, normalised (N, C, H, W)."""
    classes = sorted(set(block.classes))  # not all: ImageNet at IPC 100 has a thousand blocks
    rows = [classes.index(label) for label in block.classes]
    chosen = random_images(inputs.train, classes, ipc * tiles**2, seed).unflatten(1, (ipc, -1))
    return inputs.spec.normalise(encode_tiles(inputs.train.take(chosen[rows, list(block.slots)].flatten()), tiles))


def noise(block: Block, inputs: Inputs, ipc: int, seed: int, tiles: int = 1) -> torch.Tensor:
    """Standard normal noise in normalised space (N, C, H, W), drawn for each image by its class and slot."""
    shape = (inputs.spec.channels, inputs.spec.size, inputs.spec.size)
    draws = [
        torch.randn(shape, generator=seeding.generator(seed, "noise", label, slot))
        for label, slot in zip(block.classes, block.slots, strict=True)
    ]
    return torch.stack(draws)


# By the word in ``synthesis.initial``.
INIT: dict[str, Callable[[Block, Inputs, int, int, int], torch.Tensor]] = {"noise": noise, "real": real}
