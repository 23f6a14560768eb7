"""Trains students, side by side where they may, and measures each once on the real test set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from teddy.artifacts.fingerprint import fingerprint
from teddy.artifacts.store import Artifact, ArtifactStore
from teddy.data.batches import test_batches
from teddy.evaluation.clock import SharedClock
from teddy.evaluation.cohort import Cohort, CohortPoints, CohortProgress
from teddy.evaluation.divergence import Divergence
from teddy.evaluation.exam import Exam
from teddy.evaluation.protocol import Protocol
from teddy.evaluation.student import DsaViews, StudentTraining, ViewSource, batches_per_epoch
from teddy.labels.stage import Labels
from teddy.labels.views import ViewMaker, ViewRecipe
from teddy.models.accuracy import top1
from teddy.models.networks import build_network
from teddy.runtime import metrics
from teddy.runtime.loggers import RunLog
from teddy.runtime.memory import PeakMemory
from teddy.runtime.precision import Compute
from teddy.runtime.progress import StageProgress
from teddy.runtime.resume import TrainingPoint
from teddy.runtime.trainer import make_trainer
from teddy.synthesis.stage import ImageFolderArtifact

KIND = "students"
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
    students: Sequence[Student],
    compute: Compute,
    log: RunLog,
    progress: StageProgress,
    method: str,
    together: int = 1,
    divergence: Divergence | None = None,
) -> Iterator[Artifact]:
    """The trained students' accuracy (percent, ``facts["top1"]``), in their order; from the store if it is there.

    Students with the same protocol and labels train side by side, which changes no accuracy. The exam's images are used once per
    student, after its last epoch (invariant 7).

    ``facts["seconds"]`` of a student are those of its own epochs and its own exam; what is done for several (loading teachers,
    labelling an epoch's views) is divided equally among those who train on it. ``facts["peak_memory_mb"]`` is that of all that
    trained together.

    Args:
        progress: the display of all students' epochs.
        method: whose images these are, for people.
        together: most students that train side by side.
        divergence: measures the students' distance to their teachers as well (``facts["divergence"]``).

    Raises:
        StageFailed: a student diverged.
    """
    contents = [_content(exam, images, student, compute, divergence) for student in students]
    made = {place: one for place, content in enumerate(contents) if (one := store.find(KIND, content)) is not None}
    done = set(made)
    groups = {group[0]: group for group in _groups(students, set(range(len(students))) - done, together)}
    for place, student in enumerate(students):
        if place in groups:
            group, before = groups[place], progress.done

            def build(folders: Mapping[int, Path], group: list[int] = group) -> Iterator[tuple[int, dict[str, Any]]]:
                chosen, paths = [students[group[index]] for index in folders], list(folders.values())
                facts = _train(paths, exam, images, chosen, compute, log, progress, method, divergence)
                return zip(folders, facts, strict=True)

            made |= zip(group, store.produce_together(KIND, [contents[one] for one in group], build), strict=True)
            progress.skip(len(group) * student.protocol.epochs - (progress.done - before))
        elif place in done:
            progress.skip(student.protocol.epochs)
        yield made[place]


def _groups(students: Sequence[Student], missing: set[int], together: int) -> list[list[int]]:
    """Places of the students that train side by side: with the same views, labels and protocol, at most ``together``."""
    kinds: dict[Any, list[int]] = {}
    for place in sorted(missing):
        one = students[place]
        kinds.setdefault((one.protocol, fingerprint(one.labels.identity), one.view, one.view_seed), []).append(place)
    return [kind[i : i + together] for kind in kinds.values() for i in range(0, len(kind), together)]


def _content(
    exam: Exam, images: ImageFolderArtifact, student: Student, compute: Compute, divergence: Divergence | None
) -> dict[str, Any]:
    """What a student's accuracy depends on; its company is not among it."""
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
    return content if divergence is None else {**content, "divergence": divergence.identity}


def _views(images: ImageFolderArtifact, students: Sequence[Student], compute: Compute) -> list[ViewSource]:
    """Where each student's images come from; they share what they can."""
    pixels, first = images.images.images.to(compute.device), students[0]
    makers: dict[str, Callable[[], list[ViewSource]]] = {
        "views": lambda: [ViewMaker(pixels, images.spec, first.view, first.view_seed)] * len(students),
        "dsa": lambda: [DsaViews(pixels, images.spec, student.seed) for student in students],
    }
    return makers[first.protocol.augment]()


def _train(
    folders: Sequence[Path],
    exam: Exam,
    images: ImageFolderArtifact,
    students: Sequence[Student],
    compute: Compute,
    log: RunLog,
    progress: StageProgress,
    method: str,
    divergence: Divergence | None,
) -> Iterator[dict[str, Any]]:
    """Trains students with the same protocol and labels together; yields the facts of one after the other."""
    spec, protocol, everyone = images.spec, students[0].protocol, range(len(students))
    memory, clock = PeakMemory(compute.accelerator), SharedClock([0.0] * len(students), compute.device)
    source, views = students[0].labels.source(), _views(images, students, compute)
    steps = protocol.epochs * batches_per_epoch(len(images.images), protocol.batch_size)
    points, trainings = [], []
    for place, student in enumerate(students):
        network = build_network(student.network, spec.num_classes, spec.channels, spec.size, seed=student.seed)
        point = TrainingPoint(folders[place] / ".resume.safetensors")
        done, notes = point.restore(network)
        clock.seconds[place] = notes["seconds"] if notes else 0.0
        progress.skip(done)
        fit = metrics.student_fit(method, student.protocol_name, student.network, student.seed)
        training = StudentTraining(
            network,
            views[place],
            source,
            protocol,
            num_images=len(images.images),
            seed=student.seed,
            name=f"student {student.network} of {method} (seed {student.seed})",
            done=done,
            autocast=compute.autocast,
            logger=log.stage(fit),
            log_every=max(1, steps // 100),
        )
        points.append(point)
        trainings.append(training)
    clock.charge(everyone)
    cohort = Cohort(trainings, source, clock)
    trainer = make_trainer(
        cohort.arithmetic(compute),
        max_epochs=protocol.epochs - cohort.first_epoch,
        folder=folders[0],
        callbacks=[CohortProgress(progress, _title(method, students)), CohortPoints(points, RESUME_SECONDS)],
    )
    if cohort.first_epoch < protocol.epochs:
        trainer.fit(cohort)
    clock.charge(everyone)
    for place, training in enumerate(trainings):
        clock.charge([])  # measuring the divergence of the one before, and saving it, is nobody's
        network = training.network.to(compute.device)
        tests = test_batches(exam.images(), compute.workers)
        facts: dict[str, Any] = {"top1": round(top1(network, tests, spec.normalise, spec.num_classes, compute), 4)}
        clock.charge([place])
        facts |= {"seconds": round(clock.seconds[place], 2), "peak_memory_mb": memory.megabytes()}
        yield facts if divergence is None else {**facts, "divergence": divergence(network)}


def _title(method: str, students: Sequence[Student]) -> str:
    """What is training, for the display: ``teddy paper convnet3 0-2``."""
    names = dict.fromkeys(student.network for student in students)
    seeds = dict.fromkeys(str(student.seed) for student in students)
    return f"{method} {students[0].protocol_name} {'+'.join(names)} {','.join(seeds)}"
