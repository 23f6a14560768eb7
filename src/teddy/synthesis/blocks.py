"""Blocks: which images are optimised together, and against which teachers.

The BatchNorm statistics of Eq. 7 couple the images of a block, so a block is the unit of everything: it has its own teachers,
its own random numbers (by its index, not by the device it runs on) and its own optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from teddy.runtime import seeding


@dataclass(frozen=True)
class Block:
    """Images that are optimised together.

    Attributes:
        classes: class of each image, (N,).
        slots: which of its class's IPC images each one is, (N,), from 0.
    """

    index: int
    classes: tuple[int, ...]
    slots: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.classes)


def make_blocks(num_classes: int, ipc: int, batch_size: int, class_order: str, seed: int) -> list[Block]:
    """Splits ``num_classes * ipc`` images into blocks of at most ``batch_size``.

    With no more classes than ``batch_size`` each block holds the same number of images of every class (the last one maybe
    fewer). With more classes the i-th images of all classes are split into groups of ``batch_size`` classes, as the paper's
    "i-th image for all classes" and SRe2L's 100 consecutive classes; ``class_order="permuted"`` deals the classes anew for
    each i, so that a group is not made of neighbouring, similar classes only.
    """
    if num_classes <= batch_size:
        per_class = batch_size // num_classes
        groups = [range(start, min(start + per_class, ipc)) for start in range(0, ipc, per_class)]
        return [
            Block(
                index,
                tuple(label for label in range(num_classes) for _ in group),
                tuple(slot for _ in range(num_classes) for slot in group),
            )
            for index, group in enumerate(groups)
        ]
    blocks: list[Block] = []
    for slot in range(ipc):
        order = np.arange(num_classes)
        if class_order == "permuted":
            order = seeding.permutation(num_classes, seed, "class order", slot)
        for start in range(0, num_classes, batch_size):
            chosen = order[start : start + batch_size]
            blocks.append(Block(len(blocks), tuple(int(label) for label in chosen), (slot,) * len(chosen)))
    return blocks


def make_groups(blocks: Sequence[Block], at_once: int) -> list[list[Block]]:
    """Splits blocks, in their order, into groups of at most ``at_once`` of one size, which go through the teachers together."""
    groups: list[list[Block]] = []
    for block in blocks:
        if groups and len(groups[-1]) < at_once and len(groups[-1][0]) == len(block):
            groups[-1].append(block)
        else:
            groups.append([block])
    return groups


TeacherPolicy = Callable[[Block, int, int, int, int], list[int]]


def _per_block(block: Block, iteration: int, members: int, count: int, seed: int) -> list[int]:
    # Blocks that hold the i-th images share their teachers, whatever their classes are (Sec. 4.1).
    return sorted(seeding.permutation(members, seed, "teachers", block.slots[0])[:count].tolist())


def _per_iteration(block: Block, iteration: int, members: int, count: int, seed: int) -> list[int]:
    return sorted(seeding.permutation(members, seed, "teachers", block.slots[0], iteration)[:count].tolist())


def _round_robin(block: Block, iteration: int, members: int, count: int, seed: int) -> list[int]:
    start = (iteration + block.slots[0]) * count
    return [(start + offset) % members for offset in range(count)]


TEACHER_POLICIES: dict[str, TeacherPolicy] = {
    "block": _per_block,
    "iteration": _per_iteration,
    "round_robin": _round_robin,
}
"""Which ``count`` of ``members`` teachers a block sees in an iteration: drawn without replacement once per image index
(Sec. 4.1), drawn anew in each iteration (Algorithm 1 read literally), or all in turn."""
