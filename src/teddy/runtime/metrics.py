"""The name of every number that is logged, so that a curve, a dashboard panel and a test can never disagree.

Names read ``stage/quantity``. The first word is the stage, which also owns the x-axis ``stage/step``.
"""

from __future__ import annotations

POOL = "pool"
SYNTHESIS = "synthesis"
LABELS = "labels"
EVALUATION = "evaluation"
REPORT = "report"
STAGES = (POOL, SYNTHESIS, LABELS, EVALUATION, REPORT)

POOL_LOSS = "pool/loss"
POOL_TOP1_TRAIN = "pool/top1_train"
POOL_TOP1_HOLDOUT = "pool/top1_holdout"
POOL_TOP1_TEST = "pool/top1_test"
POOL_LR = "pool/lr"

SYNTHESIS_LOSS = "synthesis/loss"
SYNTHESIS_LOSS_CE = "synthesis/loss_ce"
SYNTHESIS_LOSS_BN = "synthesis/loss_bn"
SYNTHESIS_LR = "synthesis/lr"
SYNTHESIS_BLOCK = "synthesis/block"
"""Index of the block that a row of the curve belongs to."""
SYNTHESIS_ITERATION = "synthesis/iteration"
"""Iteration within that block; ``synthesis/step`` runs on over all blocks."""
SYNTHESIS_IMAGES = "synthesis/images"
"""Key of the picture that shows the synthetic images."""

LABELS_STORAGE_MB = "labels/storage_mb"

EVALUATION_LOSS = "evaluation/loss"
EVALUATION_TOP1 = "evaluation/top1"
EVALUATION_LR = "evaluation/lr"

COST_SECONDS = "cost/seconds"
COST_PEAK_MEMORY_MB = "cost/peak_memory_mb"

FIXED = tuple(
    value for name, value in sorted(vars().items()) if name.isupper() and isinstance(value, str) and "/" in value
)
"""Every name above; the names of :func:`step_of` and :func:`student` come on top."""


def step_of(stage: str) -> str:
    """The x-axis of a stage's curves: ``synthesis/step``."""
    return f"{stage}/step"


def student(name: str, quantity: str = "top1") -> str:
    """A student's result, e.g. ``student/resnet18/top1`` (percent, mean over seeds) or
    ``student/resnet18/top1_std``.
    """
    return f"student/{name}/{quantity}"
