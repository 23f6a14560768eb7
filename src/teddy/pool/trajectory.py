"""One training run from scratch, kept as snapshots: computed once, shared by every pool, IPC and student that reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
        )
        for record in artifact.facts["members"]
    ]


def _train(base: BaseTraining, folder: Path) -> dict[str, Any]:
    data = RealData(
        base.dataset.spec,
        base.dataset.train,
        base.dataset.test,
        augment=base.augment,
        holdout=base.holdout,
        batch_size=base.recipe.batch_size,
        seed=base.seed,
        workers=base.compute.workers,
    )
    if len(data.held_indices) == 0:
        raise BadInput(
            f"no training image of {base.dataset.spec.name} can be held out, because each class has but one; add some images."
        )
    spec = base.dataset.spec
    network = build_network(base.network, spec.num_classes, spec.channels, spec.size, seed=base.seed)
    resume = ResumePoint(folder / RESUME_FILE)
    done, records = resume.restore(network)
    snapshots = SnapshotPool(
        folder, saved_epochs(base.recipe.epochs, base.save_every), _measure(data, base), records=records or ()
    )
    resume.notes = lambda: snapshots.records
    data.first_epoch = done
    steps = len(data.train_dataloader())
    progress = ProgressCallback("pool", total=base.recipe.epochs * steps, done=done * steps)
    trainer = make_trainer(
        base.compute,
        max_epochs=base.recipe.epochs - done,
        folder=folder,
        logger=base.log.stage("pool"),
        callbacks=[progress, snapshots, resume],
    )
    if done < base.recipe.epochs:
        trainer.fit(TeacherTraining(network, base.recipe, base.seed, first_epoch=done), datamodule=data)
    return {"members": snapshots.records}


def _measure(data: RealData, base: BaseTraining) -> Callable[[Any], dict[str, float]]:
    spec = base.dataset.spec

    def measure(network: Any) -> dict[str, float]:
        def accuracy(loader: Any) -> float:
            return round(top1(network, loader, spec.normalise, spec.num_classes, base.compute), 3)

        return {"top1_holdout": accuracy(data.val_dataloader()), "top1_test": accuracy(data.test_dataloader())}

    return measure
