"""Everything that synthesis needs to know, in one plain object that can travel to another process."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from teddy.data.images import ImageSet
from teddy.pool.members import ModelPool
from teddy.synthesis.blocks import Block, make_blocks, make_groups
from teddy.synthesis.objective import Weights
from teddy.synthesis.perturb import BlockView

VERSION = 2  # 2: statistics by the kernel that BatchNorm trains with, which rounds differently
LOG_EVERY = 20
"""Iterations between two recorded losses; nothing synchronises the device in between."""


@dataclass(frozen=True)
class SynthesisJob:
    """The optimisation of one distilled set (Algorithm 1, the while loop; Table 7).

    Attributes:
        train: real training images, for ``initial="real"``.
        plateau: a block ends early once its loss falls by less than this share in 100 iterations; None: never.
        betas: of Adam.
        weight_decay: of Adam, added to the gradient as ``weight_decay * pixels``.
        checkpoint_every: iterations between two points that a killed block resumes from; no part of the result.
        sheet_every: iterations between two pictures of the first block; no part of the result.
        blocks_at_once: how many blocks go through the teachers together; changes the rounding, nothing else.
        compile: whether the teachers are compiled; changes the rounding, nothing else.
    """

    pool: ModelPool
    train: ImageSet
    ipc: int
    iterations: int
    plateau: float | None
    lr: float
    betas: tuple[float, float]
    weight_decay: float
    weights: Weights
    batch_size: int
    class_order: str
    teachers_per_block: int
    teacher_policy: str
    initial: str
    view: BlockView
    seed: int
    checkpoint_every: int
    sheet_every: int
    blocks_at_once: int
    compile: bool

    def blocks(self) -> list[Block]:
        """All blocks, in the order of their indices."""
        return make_blocks(self.pool.spec.num_classes, self.ipc, self.batch_size, self.class_order, self.seed)

    def groups(self) -> list[list[Block]]:
        """All blocks, as they go through the teachers; the same for any number of devices."""
        return make_groups(self.blocks(), self.blocks_at_once)

    def content(self, precision: str) -> dict[str, Any]:
        """What the images depend on, for their fingerprint. The pool's identity covers the data it was trained on."""
        left_out = {"pool", "train", "checkpoint_every", "sheet_every"}
        fields = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name not in left_out
        }
        return {"version": VERSION, "pool": self.pool.fingerprint, "precision": precision, **fields}
