"""One training run from scratch, kept as snapshots: computed once, shared by every pool, IPC and student that reads it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from teddy.artifacts.store import ArtifactStore
from teddy.config.epochs import saved_epochs
from teddy.config.errors import BadInput
from teddy.data.augment import Augmentation
from teddy.data.datamodule import RealData
from teddy.data.dataset import RealDataset
from teddy.models.accuracy import top1
from teddy.models.networks import build_network
from teddy.pool.members import Member
from teddy.pool.schedule import Recipe
from teddy.pool.teacher import SnapshotPool, TeacherTraining
from teddy.runtime.loggers import RunLog
from teddy.runtime.precision import Compute
from teddy.runtime.progress import ProgressCallback
from teddy.runtime.resume import ResumePoint
from teddy.runtime.trainer import make_trainer

VERSION = 1
RESUME_FILE = ".resume.safetensors"
RESUME_SECONDS = 20.0
"""Shortest time between two points to resume from: a small network's epoch takes little longer than writing one."""


@dataclass(frozen=True)
class BaseTraining:
    """Everything that a pool strategy may use to make teachers: data, network, recipe and where results go."""

    store: ArtifactStore
    dataset: RealDataset
    network: str
    recipe: Recipe
    augment: Augmentation
    holdout: float
    save_every: int
    seed: int
    compute: Compute
    log: RunLog

    def content(self) -> dict[str, Any]:
        """What the trajectory depends on, for its fingerprint."""
        return {
            "version": VERSION,
            "dataset": self.dataset.fingerprint,
            "network": self.network,
            "recipe": asdict(self.recipe),
            "augment": asdict(self.augment),
            "holdout": self.holdout,
            "save_every": self.save_every,
            "seed": self.seed,
            "precision": self.compute.precision,
        }


def trajectory(base: BaseTraining) -> list[Member]:
    """The snapshots of the base model's training, early to late; trained now unless they are in the store.

    Raises:
        BadInput: data or network cannot be used.
        StageFailed: training diverged or the disk is full.
    """
    artifact = base.store.produce("trajectory", base.content(), lambda folder: _train(base, folder))
    return [
        Member(
            network=base.network,
            file=artifact.folder / record["file"],
            epoch=record["epoch"],
            identity=f"{artifact.fingerprint}/{record['epoch']}",
            top1_holdout=record["top1_holdout"],
            top1_test=record["top1_test"],
            seconds=record.get("seconds", 0.0),
        )
        for record in artifact.facts["members"]
    ]


def open_data(base: BaseTraining, batch_size: int) -> RealData:
    """The dataset as teachers are trained and measured on it; what is held out depends on the base model's seed only.

    Raises:
        BadInput: no image can be held out.
    """
    data = RealData(
        base.dataset.spec,
        base.dataset.train,
        base.dataset.test,
        augment=base.augment,
        holdout=base.holdout,
        batch_size=batch_size,
        seed=base.seed,
        workers=base.compute.workers,
    )
    if len(data.held_indices) == 0:
        raise BadInput(
            f"no training image of {base.dataset.spec.name} can be held out, because each class has but one; add some images."
        )
    return data


def accuracies(base: BaseTraining, data: RealData, network: nn.Module) -> dict[str, float]:
    """Top-1 in percent as it is noted for each teacher: ``top1_holdout`` and ``top1_test``."""
    return {
        "top1_holdout": holdout_top1(base, data, network),
        "top1_test": _top1(base, data.test_dataloader(), network),
    }


def holdout_top1(base: BaseTraining, data: RealData, network: nn.Module) -> float:
    """Top-1 in percent on the held-out images."""
    return _top1(base, data.val_dataloader(), network)


def _top1(base: BaseTraining, batches: Iterable[Any], network: nn.Module) -> float:
    spec = base.dataset.spec
    return round(top1(network, batches, spec.normalise, spec.num_classes, base.compute), 3)


def _train(base: BaseTraining, folder: Path) -> dict[str, Any]:
    data = open_data(base, base.recipe.batch_size)
    spec = base.dataset.spec
    network = build_network(base.network, spec.num_classes, spec.channels, spec.size, seed=base.seed)
    resume = ResumePoint(folder / RESUME_FILE, RESUME_SECONDS)
    done, notes = resume.restore(network)
    snapshots = SnapshotPool(
        folder, saved_epochs(base.recipe.epochs, base.save_every), partial(accuracies, base, data), **(notes or {})
    )
    resume.notes = lambda: {"records": snapshots.records, "seconds": snapshots.seconds}
    data.first_epoch = done
    steps = len(data.train_dataloader())
    progress = ProgressCallback("pool", total=base.recipe.epochs * steps, done=done * steps)
    trainer = make_trainer(
        base.compute,
        max_epochs=base.recipe.epochs - done,
        folder=folder,
        logger=base.log.stage("pool", first_step=done * steps),
        callbacks=[progress, snapshots, resume],
    )
    if done < base.recipe.epochs:
        trainer.fit(TeacherTraining(network, base.recipe, base.seed, first_epoch=done), datamodule=data)
    return {"members": snapshots.records}
