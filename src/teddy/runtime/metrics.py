"""Names of all logged numbers, so that a curve, a dashboard panel and a test can never disagree.

Names read ``family/quantity``. A family that is a stage also owns the x-axis ``stage/step`` of its curves; the numbers of
``cost`` and ``divergence`` are final ones, once per run.
"""

from __future__ import annotations

SYNTHESIS = "synthesis"
EVALUATION = "evaluation"

POOL_LOSS = "pool/loss"
POOL_LR = "pool/lr"
POOL_EPOCH = "pool/epoch"  # epochs of training behind a snapshot; in the same row as its accuracy
POOL_TOP1_HOLDOUT = "pool/val/top1"

SYNTHESIS_BLOCK = "synthesis/block"  # index of the block that a row of the curve belongs to
SYNTHESIS_ITERATION = "synthesis/iteration"  # iteration within that block; synthesis/step runs on over all blocks
SYNTHESIS_PROBE = "synthesis/probe_top1"  # of a small student of the first blocks, on held-out images
SYNTHESIS_LR = "synthesis/lr"
SYNTHESIS_IMAGES = "synthesis/images"  # key of the image grid of the first block's snapshots

LABELS_STORAGE_MB = "labels/storage_mb"

EVALUATION_LOSS = "evaluation/loss"
EVALUATION_LR = "evaluation/lr"

COST_POOL_SECONDS = "cost/pool_seconds"  # of the training that the pool needs, over all runs that had a part in it
COST_SYNTHESIS_SECONDS = "cost/synthesis_seconds"
COST_SYNTHESIS_PEAK_MEMORY_MB = "cost/synthesis_peak_memory_mb"

DIVERGENCE_MEAN = "divergence/mean"  # KL from the students' predictions to the teachers' in nats

FIXED = tuple(
    value for name, value in sorted(vars().items()) if name.isupper() and isinstance(value, str) and "/" in value
)
"""All names above; the functions below make further ones."""


def step_of(stage: str) -> str:
    """Name the x-axis of a stage's curves: ``synthesis/step``."""
    return f"{stage}/step"


def synthesis_term(name: str) -> str:
    """Name the curve of a term that a method names: ``synthesis/<term>``."""
    return f"{SYNTHESIS}/{name}"


def student_fit(method: str, protocol: str, student: str, seed: int) -> str:
    """Name a student's training: ``evaluation/<method>/<protocol>/<student>/<seed>``."""
    return f"{EVALUATION}/{method}/{protocol}/{student}/{seed}"


def in_fit(fit: str, name: str) -> str:
    """Name a curve of a fit: ``evaluation/loss`` becomes ``<fit>/loss``, and in a fit that is a whole stage keeps its name."""
    return f"{fit}/{name.removeprefix(fit.split('/')[0] + '/')}"


def student(setting: str, quantity: str = "top1") -> str:
    """Name a result of the students of one setting, ``method/protocol/labels/student``, over the seeds and in percent."""
    return f"student/{setting}/{quantity}"
