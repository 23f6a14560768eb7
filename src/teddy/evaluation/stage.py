"""The evaluation stage: students are trained one after another, and each is measured once on the evaluation split."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from torch import nn

from teddy.artifacts.store import Artifact, ArtifactStore, Outlook
from teddy.config.errors import Diverged
from teddy.evaluation.datamodule import DistilledViews
from teddy.evaluation.divergence import Divergence
from teddy.evaluation.dsa_views import DsaViews
from teddy.evaluation.protocol import Protocol
from teddy.evaluation.split import EvalSplit
from teddy.evaluation.student import StudentTraining
from teddy.labels.stage import Labels
from teddy.labels.views import ViewMaker, ViewRecipe, ViewSource
from teddy.models.classifier import TEST_LOSS, TEST_MACRO_F1, TEST_TOP1
from teddy.models.networks import build_network
from teddy.runtime import metrics
from teddy.runtime.device import DeviceConfig
from teddy.runtime.loggers import RunLog
from teddy.runtime.memory import PeakMemory
from teddy.runtime.progress import StageProgress, counted
from teddy.runtime.resume import ResumePoint
from teddy.runtime.trainer import make_trainer
from teddy.synthesis.stage import SyntheticImages

KIND = "students"
VERSION = 3
RESUME_SECONDS = 20.0


@dataclass(frozen=True)
class Student:
    """One student to train."""

    network: str
    protocol_name: str  # for people
    protocol: Protocol
    labels: Labels
    view: ViewRecipe  # unless the protocol augments otherwise
    view_seed: int  # the labels'
    seed: int  # of the initial weights and of the order of images


class Classification:
    """What students are trained and tested on, and what is measured; another task overrides all three functions."""

    def num_classes(self, images: SyntheticImages) -> int:
        return images.spec.num_classes

    def fit(
        self,
        student: Student,
        network: nn.Module,
        images: SyntheticImages,
        split: EvalSplit,
        device_config: DeviceConfig,
        done: int,
    ) -> tuple[L.LightningDataModule, StudentTraining]:
        spec, protocol, source = images.spec, student.protocol, student.labels.source()
        pixels = images.images.images.to(device_config.device)
        views: ViewSource = ViewMaker(pixels, spec, student.view, student.view_seed)
        if protocol.augment != "views":
            views = DsaViews(pixels, spec, student.seed, protocol.augment, protocol.cutmix)
        loading = (split.images, done, device_config.workers, split.curve)
        data = DistilledViews(views, source, protocol.batch_size, student.seed, spec, *loading)
        return data, StudentTraining(network, protocol, source.loss, spec.num_classes, student.seed, done)

    def facts(self, result: Mapping[str, float]) -> dict[str, Any]:
        """What is noted of a student, from the values that its module logged in the test."""
        return {
            "top1": round(result[TEST_TOP1], 4),
            "macro_f1": round(result[TEST_MACRO_F1], 4),
            "loss": round(result[TEST_LOSS], 5),
        }


def evaluate(
    store: ArtifactStore,
    split: EvalSplit,
    images: SyntheticImages,
    student: Student,
    device_config: DeviceConfig,
    log: RunLog,
    progress: StageProgress,
    method: str,
    divergence: Divergence | None = None,
    task: Classification | None = None,
) -> Artifact:
    """Train a student unless it is in the store, and measure its accuracy and F1 score (percent) and its loss (``facts``).

    The split's images are used once, after the last epoch. ``facts["seconds"]`` are those of training and test,
    over all runs that had a part in them.

    Args:
        progress: the display of all students' epochs.
        method: the name of the method that made the images, for people.
        divergence: measures the student's distance to its teachers as well (``facts["divergence"]``).
        task: by default, classification.

    Raises:
        Diverged: the student did.
        StageFailed: the disk is full.
    """
    content = {
        "version": VERSION,
        "images": images.fingerprint,
        **split.identity,
        "network": student.network,
        "protocol": asdict(student.protocol),
        "labels": student.labels.identity,
        "view": asdict(student.view) if student.protocol.augment == "views" else None,
        "view_seed": student.view_seed,
        "seed": student.seed,
        **device_config.fingerprint,
    }
    if divergence is not None:
        content["divergence"] = divergence.identity
    build = partial(
        _train, student, split, images, device_config, log, progress, method, divergence, task or Classification()
    )
    before = progress.done
    outlook = partial(_outlook, student, images, split, method)
    artifact = store.produce(KIND, content, build, collective=device_config.together, outlook=outlook)
    progress.skip(student.protocol.epochs - (progress.done - before))
    return artifact


def _outlook(student: Student, images: SyntheticImages, split: EvalSplit, method: str) -> Outlook:
    protocol, count = student.protocol, len(images.images)
    return Outlook(
        f"{method}: {student.network}, protocol {student.protocol_name}, {counted(protocol.epochs, 'epoch')}",
        {"top1": math.nan, "seconds": math.nan, "peak_memory_mb": math.nan},
        alike=(student.network, repr(protocol), student.labels.kind, count, len(split.images())),
        label="evaluation",
        # A test image takes a third of the time of one that is learned from.
        units=protocol.epochs + len(split.images()) / count / 3,
    )


def _train(
    student: Student,
    split: EvalSplit,
    images: SyntheticImages,
    device_config: DeviceConfig,
    log: RunLog,
    progress: StageProgress,
    method: str,
    divergence: Divergence | None,
    task: Classification,
    folder: Path,
) -> dict[str, Any]:
    spec, protocol = images.spec, student.protocol
    memory, started = PeakMemory(device_config.accelerator), time.monotonic()
    classes = task.num_classes(images)
    network = build_network(student.network, classes, spec.channels, spec.size, seed=student.seed)
    point = ResumePoint(folder / ".resume.safetensors", RESUME_SECONDS, lambda: time.monotonic() - started)
    done, seconds = point.restore(network)
    started -= seconds or 0.0  # of a killed run
    progress.skip(done)
    data, module = task.fit(student, network, images, split, device_config, done)
    steps = len(data.train_dataloader())
    title = f"{student.network} of {method} (protocol {student.protocol_name}, seed {student.seed})"
    fit = metrics.student_fit(method, student.protocol_name, student.network, student.seed)
    trainer = make_trainer(
        device_config,
        max_epochs=protocol.epochs - done,
        folder=folder,
        logger=log.stage(fit, first_step=done * steps),
        callbacks=[EpochEnd(progress, title, protocol.lr), point],  # a point is written only after the loss was checked
        log_every=max(1, protocol.epochs * steps // 50),
        validate=max(1, protocol.epochs // 20) if getattr(data, "curve", None) else 0,
    )
    try:
        if done < protocol.epochs:
            trainer.fit(module, datamodule=data)
        (result,) = trainer.test(module, datamodule=data, verbose=False)
        if not all(map(math.isfinite, result.values())):  # by the last step
            raise _diverged(title, protocol.lr, f"epoch {protocol.epochs}", module.trouble())
    except Diverged:
        point.path.unlink(missing_ok=True)  # it may hold what the next run would not recover from
        raise
    facts = {
        **task.facts(result),
        "seconds": round(time.monotonic() - started, 2),
        "peak_memory_mb": memory.megabytes(),
    }
    return facts if divergence is None else {**facts, "divergence": divergence(network.to(device_config.device))}


def _diverged(title: str, lr: float, *where: str) -> Diverged:
    place = ", ".join(filter(None, where))
    return Diverged(f"student {title} diverged ({place}); lower the learning rate of its protocol, {lr}.")


class EpochEnd(L.Callback):
    """Check of a student's loss after each epoch, which also advances the display of all students."""

    def __init__(self, progress: StageProgress, title: str, lr: float) -> None:
        self._progress, self._title, self._lr = progress, title, lr

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Raise Diverged if the last loss is not finite, else count the epoch."""
        assert isinstance(module, StudentTraining)
        # The mean over all processes, so that they agree on whether to stop.
        loss = float(trainer.strategy.reduce(module.last_loss, reduce_op="mean"))
        if not math.isfinite(loss):
            epoch = module.first_epoch + trainer.current_epoch + 1
            raise _diverged(self._title, self._lr, f"epoch {epoch}", module.trouble(), f"loss {loss}")
        self._progress.advance(student=self._title, loss=loss)
