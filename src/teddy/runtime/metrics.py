"""The name of every number that is logged, so that a curve, a dashboard panel and a test can never disagree.

Names read ``family/quantity``. A family that is a stage also owns the x-axis ``stage/step`` of its curves; the numbers of
``cost`` and ``divergence`` are final ones, once per run.
"""

from __future__ import annotations

POOL = "pool"
SYNTHESIS = "synthesis"
LABELS = "labels"
EVALUATION = "evaluation"
REPORT = "report"
STAGES = (POOL, SYNTHESIS, LABELS, EVALUATION, REPORT)

POOL_LOSS = "pool/loss"
POOL_EPOCH = "pool/epoch"
"""Epochs of training behind a snapshot; in the same row as its accuracies."""
POOL_TOP1_HOLDOUT = "pool/top1_holdout"
POOL_TOP1_TEST = "pool/top1_test"

SYNTHESIS_LOSS = "synthesis/loss"
SYNTHESIS_LOSS_CE = "synthesis/loss_ce"
SYNTHESIS_LOSS_BN = "synthesis/loss_bn"
SYNTHESIS_BLOCK = "synthesis/block"
"""Index of the block that a row of the curve belongs to."""
SYNTHESIS_ITERATION = "synthesis/iteration"
"""Iteration within that block; ``synthesis/step`` runs on over all blocks."""
SYNTHESIS_IMAGES = "synthesis/images"
"""Key of the picture of the first block's images on their way."""

LABELS_STORAGE_MB = "labels/storage_mb"

EVALUATION_LOSS = "evaluation/loss"

COST_POOL_SECONDS = "cost/pool_seconds"
"""Training that the pool needs, over all runs that had a part in it; likewise below."""
COST_SYNTHESIS_SECONDS = "cost/synthesis_seconds"
COST_SYNTHESIS_PEAK_MEMORY_MB = "cost/synthesis_peak_memory_mb"

DIVERGENCE_MEAN = "divergence/mean"
"""KL divergence from the students' predictions to the teachers' in nats, over teachers and students."""

FIXED = tuple(
    value for name, value in sorted(vars().items()) if name.isupper() and isinstance(value, str) and "/" in value
)
"""Every name above; what the functions below make comes on top."""


def step_of(stage: str) -> str:
    """The x-axis of a stage's curves: ``synthesis/step``."""
    return f"{stage}/step"


def student_fit(method: str, protocol: str, student: str, seed: int) -> str:
    """What a student's training is called among the fits of the evaluation: ``evaluation/teddy/paper/resnet18/0``."""
    return f"{EVALUATION}/{method}/{protocol}/{student}/{seed}"


def in_fit(fit: str, name: str) -> str:
    """A curve's name where all fits of a run meet: ``evaluation/loss`` of the fit ``evaluation/teddy/paper/resnet18/0``
    is ``evaluation/teddy/paper/resnet18/0/loss``; in a fit that is a whole stage it keeps its name.
    """
    return f"{fit}/{name.removeprefix(fit.split('/')[0] + '/')}"


def student(name: str, quantity: str = "top1") -> str:
    """A result of the students that share a setting: ``student/teddy/paper/stored/resnet18/top1`` (percent, mean over
    seeds) or ``…/top1_std``.

    Args:
        name: the setting as ``method/protocol/labels/student``.
    """
    return f"student/{name}/{quantity}"
