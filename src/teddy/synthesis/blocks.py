"""Blocks: the images that are optimised together.

A block has its own random numbers (by its index, not by the device it runs on) and shares nothing with other blocks, so blocks
can be dealt to any number of processes, or go through a network side by side in groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """Images that are optimised together: the class of each one, and which of its class's IPC images it is, from 0."""

    index: int
    classes: tuple[int, ...]
    slots: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.classes)


def make_blocks(num_classes: int, ipc: int, batch_size: int) -> list[Block]:
    """Split ``num_classes * ipc`` images into blocks of at most ``batch_size``.

    With no more classes than ``batch_size`` each block holds the same number of images of every class (the last one maybe
    fewer). With more classes the i-th images of all classes are split into groups of ``batch_size`` consecutive classes, as the
    paper's "i-th image for all classes" (Sec. 4.1).
    """
    if num_classes <= batch_size:
        slots = _split(ipc, batch_size // num_classes)
        parts = [(range(num_classes), some) for some in slots]
    else:
        parts = [(some, range(slot, slot + 1)) for slot in range(ipc) for some in _split(num_classes, batch_size)]
    blocks = [zip(*itertools.product(*part), strict=True) for part in parts]
    return [Block(index, classes, slots) for index, (classes, slots) in enumerate(blocks)]


def _split(count: int, size: int) -> list[range]:
    return [range(count)[start : start + size] for start in range(0, count, size)]


def make_groups(blocks: Sequence[Block], at_once: int) -> list[list[Block]]:
    """Split blocks, in their order, into groups of at most ``at_once`` blocks of one size, which are optimised side by side."""
    groups: list[list[Block]] = []
    for block in blocks:
        if groups and len(groups[-1]) < at_once and len(groups[-1][0]) == len(block):
            groups[-1].append(block)
        else:
            groups.append([block])
    return groups
