"""What labels new views of a set: its teachers, if they lie in its folder; else its stored labels can be read."""

from __future__ import annotations

from collections.abc import Callable

import torch

from teddy.labels.compression import compression
from teddy.labels.ensemble import PoolLabeller
from teddy.pool.members import Member, ModelPool
from teddy.runtime.device import resolve_device
from teddy.sets.folder import SetFolder
from teddy.sets.labels import LABELS, SetLabels

Labeller = Callable[[torch.Tensor], torch.Tensor]
"""Maps normalised images (B, C, H, W) to logits, float32 (B, classes) on the CPU."""


def set_labeller(opened: SetFolder) -> Labeller | None:
    """The mean logits of the set's teachers, on the device that there is; None where the set holds none."""
    facts = opened.description.labels
    members = [
        Member(
            one.network,
            opened.path / one.file,
            one.epoch,
            one.file,
            one.top1_holdout,
            None if one.history is None else opened.path / one.history,
        )
        for one in facts.teachers
        if one.file is not None
    ]
    if not members:
        return None
    config = resolve_device("auto", facts.precision)
    teachers = ModelPool(tuple(members), opened.spec, "set").load_teachers(config)
    labeller = PoolLabeller(teachers, config.autocast)
    return lambda images: labeller(images.to(config.device)).cpu()


def stored_labels(opened: SetFolder) -> SetLabels:
    """The stored labels of a set."""
    facts, count = opened.description.labels, len(opened.images)
    kept = compression(opened.spec.num_classes, facts.top_k, facts.temperature)
    return SetLabels(opened.path / LABELS, (facts.epochs or 0, count), kept, facts.temperature)
