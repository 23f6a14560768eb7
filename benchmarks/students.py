"""C: an epoch of a student's training, beside bare training steps of the same network with the same optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.fits import InsideFit, fit, quiet
from benchmarks.setting import Setting, made_up_images, made_up_spec
from benchmarks.timing import Row, Turns, Work, at_most, compare
from teddy.data.spec import DatasetSpec
from teddy.evaluation.clock import SharedClock
from teddy.evaluation.cohort import Cohort, CohortPoints, CohortProgress
from teddy.evaluation.protocol import Protocol
from teddy.evaluation.student import StudentTraining, batches_per_epoch
from teddy.labels.losses import soft_label_kl
from teddy.labels.packing import Dense
from teddy.labels.sources import StoredLabels
from teddy.labels.store import LOGITS
from teddy.labels.views import ViewMaker, ViewRecipe
from teddy.models.networks import build_network
from teddy.runtime.loggers import RunLog
from teddy.runtime.precision import Compute
from teddy.runtime.progress import StageProgress
from teddy.runtime.resume import TrainingPoint

ABOVE_BARE = at_most(1.10)
SIZE, IMAGES, BATCH, EPOCHS, TEMPERATURE = 32, 100, 50, 300, 20.0
"""IPC 10 of ten classes; conf/evaluation/default.yaml's protocol `paper` with this batch size."""
PROTOCOL = Protocol("soft", "views", "adamw", 1e-3, 0.9, 0.01, BATCH, EPOCHS, "cosine", 1.0)
STEPS = batches_per_epoch(IMAGES, BATCH)


@dataclass(frozen=True)
class Case:
    network: str
    epochs_in_turn: int


CASES = (Case("convnet3", 5), Case("resnet18_cifar", 1))


def rows(setting: Setting) -> Iterator[Row]:
    spec = made_up_spec(SIZE)
    for case in CASES[:1] if setting.quick else CASES:
        reference = bare(case.network, spec, setting.compute)
        turns = Turns([reference], setting.device, setting.rounds, per_round=setting.steps(case.epochs_in_turn))
        folder = setting.scratch(f"student-{case.network}")
        ours, others = timed(case.network, spec, turns, setting.compute, folder)
        what = f"student's step, {case.network}, {SIZE} px, batch {BATCH}, stored labels (s)"
        yield compare(what, ours / STEPS, others[0] / STEPS, ABOVE_BARE)


def timed(network: str, spec: DatasetSpec, turns: Turns, compute: Compute, folder: Path) -> tuple[float, list[float]]:
    """Seconds of an epoch of a real fit with everything that the stage puts in it, and of the references."""
    inside = InsideFit(turns, epochs=True)
    images = made_up_images(spec, IMAGES).images.to(compute.device)
    draws = np.random.default_rng(0)
    np.save(folder / LOGITS, draws.standard_normal((EPOCHS, IMAGES, spec.num_classes)).astype(np.float16))
    source = StoredLabels(folder / LOGITS, IMAGES, Dense(spec.num_classes), TEMPERATURE)
    student = StudentTraining(
        build_network(network, spec.num_classes, spec.channels, spec.size),
        ViewMaker(images, spec, ViewRecipe(), seed=0),
        source,
        PROTOCOL,
        IMAGES,
        seed=0,
        autocast=compute.autocast,
        logger=RunLog(folder).stage("evaluation"),
        log_every=EPOCHS * STEPS // 100,
    )
    cohort = Cohort([student], source, SharedClock([0.0], compute.device))
    progress = StageProgress("evaluation", EPOCHS, "epochs")
    points = CohortPoints([TrainingPoint(folder / ".resume.safetensors")], seconds=20.0)
    callbacks = [CohortProgress(progress, "student"), points]
    with quiet(), progress:
        return fit(cohort, inside, cohort.arithmetic(compute), folder, "evaluation", inside.length, callbacks)


def bare(network: str, spec: DatasetSpec, compute: Compute) -> Work:
    """As many training steps as an epoch has, on one batch that never changes."""
    student = build_network(network, spec.num_classes, spec.channels, spec.size).to(compute.device).train()
    optimizer = PROTOCOL.make_optimizer(student)
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, spec.channels, spec.size, spec.size, generator=draws).to(compute.device)
    images = images.contiguous(memory_format=torch.channels_last)
    targets = torch.randn(BATCH, spec.num_classes, generator=draws).to(compute.device)

    def work() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            with compute.autocast():
                loss = soft_label_kl(student(images).float(), targets, TEMPERATURE)
            loss.backward()
            optimizer.step()

    return work
