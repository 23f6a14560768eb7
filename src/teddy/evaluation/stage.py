"""Trains one student and measures it once on the real test set."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from teddy.artifacts.store import Artifact, ArtifactStore
from teddy.data.batches import test_batches
from teddy.evaluation.divergence import Divergence
from teddy.evaluation.exam import Exam
from teddy.evaluation.protocol import Protocol
from teddy.evaluation.student import DsaViews, StudentTraining, ViewSource, batches_per_epoch
from teddy.labels.stage import Labels
from teddy.labels.views import ViewMaker, ViewRecipe
from teddy.models.accuracy import top1
from teddy.models.networks import build_network
from teddy.runtime.loggers import RunLog
from teddy.runtime.memory import PeakMemory
from teddy.runtime.precision import Compute
from teddy.runtime.progress import SharedProgress, StageProgress
from teddy.runtime.resume import ResumePoint
from teddy.runtime.trainer import make_trainer
from teddy.synthesis.stage import ImageFolderArtifact

VERSION = 1
RESUME_SECONDS = 20.0


@dataclass(frozen=True)
class Student:
    """One student to train.

    Attributes:
        network: its name.
        protocol_name: the protocol's name, for people.
        labels: the run's soft labels or hard ones, as the protocol says.
        view: how soft views are made.
        view_seed: of the views, the same as the labels'.
        seed: of the initial weights and of the order of images.
    """

    network: str
    protocol_name: str
    protocol: Protocol
    labels: Labels
    view: ViewRecipe
    view_seed: int
    seed: int


def evaluate(
    store: ArtifactStore,
    exam: Exam,
    images: ImageFolderArtifact,
    student: Student,
    compute: Compute,
    log: RunLog,
    progress: StageProgress,
    title: str,
    divergence: Divergence | None = None,
) -> Artifact:
    """The trained student's accuracy (percent, ``facts["top1"]``), from the store if it is there.

    The exam's images are used once, after the last epoch (invariant 7).

    Args:
        progress: the display of all students' epochs.
        title: what this student is called in it.
        divergence: measures the student's distance to its teachers as well (``facts["divergence"]``).

    Raises:
        StageFailed: the student diverged.
    """
    content = {
        "version": VERSION,
        "images": images.fingerprint,
        **exam.identity,
        "network": student.network,
        "protocol": asdict(student.protocol),
        "labels": student.labels.identity,
        "view": asdict(student.view) if student.protocol.augment == "views" else None,
        "view_seed": student.view_seed,
        "seed": student.seed,
        "precision": compute.precision,
    }
    if divergence is not None:
        content["divergence"] = divergence.identity
    before = progress.done

    def build(folder: Path) -> dict[str, Any]:
        return _train(folder, exam, images, student, compute, log, progress, title, divergence)

    artifact = store.produce("students", content, build)
    progress.skip(student.protocol.epochs - (progress.done - before))
    return artifact


def _views(images: ImageFolderArtifact, student: Student, compute: Compute) -> ViewSource:
    pixels = images.images.images.to(compute.device)
    makers: dict[str, Callable[[], ViewSource]] = {
        "views": lambda: ViewMaker(pixels, images.spec, student.view, student.view_seed),
        "dsa": lambda: DsaViews(pixels, images.spec, student.seed),
    }
    return makers[student.protocol.augment]()


def _train(
    folder: Path,
    exam: Exam,
    images: ImageFolderArtifact,
    student: Student,
    compute: Compute,
    log: RunLog,
    progress: StageProgress,
    title: str,
    divergence: Divergence | None,
) -> dict[str, Any]:
    spec, protocol = images.spec, student.protocol
    network = build_network(student.network, spec.num_classes, spec.channels, spec.size, seed=student.seed)
    resume = ResumePoint(folder / ".resume.safetensors", seconds=RESUME_SECONDS)
    started = time.monotonic()
    resume.notes = lambda: {"seconds": before + time.monotonic() - started}
    done, notes = resume.restore(network)
    before = notes["seconds"] if notes else 0.0
    progress.skip(done)
    memory = PeakMemory(compute.accelerator)
    module = StudentTraining(
        network,
        _views(images, student, compute),
        student.labels.source(),
        protocol,
        num_images=len(images.images),
        seed=student.seed,
        first_epoch=done,
    )
    steps = batches_per_epoch(len(images.images), protocol.batch_size)
    trainer = make_trainer(
        compute,
        max_epochs=protocol.epochs - done,
        folder=folder,
        logger=log.stage(f"evaluation/{title.replace(' ', '/')}", first_step=done * steps),
        callbacks=[SharedProgress(progress, title), resume],
        log_every=max(1, protocol.epochs * steps // 100),
    )
    if done < protocol.epochs:
        trainer.fit(module)
    network.to(compute.device)
    accuracy = top1(network, test_batches(exam.images(), compute.workers), spec.normalise, spec.num_classes, compute)
    facts = {
        "top1": round(accuracy, 4),
        "seconds": round(before + time.monotonic() - started, 2),
        "peak_memory_mb": memory.megabytes(),
    }
    return facts if divergence is None else {**facts, "divergence": divergence(network)}
