"""The base model's training from scratch, with snapshots: computed once, shared by every pool that reads it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from teddy.artifacts.store import ArtifactStore, Outlook
from teddy.config.epochs import saved_epochs
from teddy.config.errors import UserError
from teddy.data.augment import Augmentation
from teddy.data.datamodule import RealData
from teddy.data.dataset import RealDataset
from teddy.models.networks import build_network
from teddy.pool.members import WEIGHTS, Member, Trajectory
from teddy.pool.schedule import Recipe
from teddy.pool.teacher import SnapshotPool, TeacherTraining, snapshot_file
from teddy.runtime.device import DeviceConfig
from teddy.runtime.loggers import RunLog
from teddy.runtime.progress import ProgressCallback, counted
from teddy.runtime.resume import ResumePoint, save_tensors
from teddy.runtime.trainer import make_trainer

VERSION = 1
RESUME_FILE = ".resume.safetensors"
RESUME_SECONDS = 20.0  # between two resume points: a small network's epoch takes little longer than writing one


@dataclass(frozen=True)
class BaseTraining:
    """What a pool strategy works with: data, network and recipe of the base model, and where results go."""

    store: ArtifactStore  # see ArtifactStore.produce; under collective=True only is_leader() writes
    dataset: RealDataset
    network: str  # name for build_network
    recipe: Recipe
    augment: Augmentation
    holdout: float  # share of the training images that validation uses; they are never trained on
    save_every: int  # epochs between two snapshots
    seed: int  # of initialisation, order and augmentation
    device_config: DeviceConfig
    log: RunLog  # log.stage("pool/<name>") is a Lightning logger of its own
    holdout_seed: int | None = None  # of the choice of held-out images; None: seed
    name: str = "pool"  # of the curves, and in the progress
    few_shot: int | None = None  # training images of each class, drawn by the seed; None: all

    data: ClassVar[type[RealData]] = RealData  # another task than classification has its own, and its own training
    training: ClassVar[type[TeacherTraining]] = TeacherTraining

    def content(self) -> dict[str, Any]:
        """What the trajectory depends on, for its fingerprint."""
        few_shot = {} if self.few_shot is None else {"few_shot": self.few_shot}
        held_out = {} if self.holdout_seed is None else {"holdout_seed": self.holdout_seed}
        return {
            "version": VERSION,
            "dataset": self.dataset.fingerprint,
            "network": self.network,
            "recipe": {key: value for key, value in asdict(self.recipe).items() if value is not None},
            "augment": asdict(self.augment),
            "holdout": self.holdout,
            "save_every": self.save_every,
            "seed": self.seed,
            **self.device_config.fingerprint,
            **held_out,
            **few_shot,
        }

    @property
    def saved(self) -> list[int]:
        """Epochs after which the weights are kept."""
        if self.few_shot is None:
            return saved_epochs(self.recipe.epochs, self.save_every)
        return list(range(self.save_every, self.recipe.epochs + 1, self.save_every))

    def build_network(self) -> nn.Module:
        spec = self.dataset.spec
        return build_network(self.network, spec.num_classes, spec.channels, spec.size, seed=self.seed)

    def open_data(self, batch_size: int, seed: int | None = None, first_epoch: int = 0) -> RealData:
        """Open the dataset as teachers are trained and evaluated on it; another seed changes no image that is held out."""
        data = self.data(
            self.dataset.spec,
            self.dataset.train,
            augment=self.augment,
            holdout=self.holdout,
            batch_size=batch_size,
            seed=self.seed if seed is None else seed,
            holdout_seed=self.seed if self.holdout_seed is None else self.holdout_seed,
            workers=self.device_config.workers,
            first_epoch=first_epoch,
            few_shot=self.few_shot,
        )
        if len(data.held_indices) == 0:
            raise UserError(
                f"no training image of {data.spec.name} can be held out, because each class has but one; add some images."
            )
        return data

    def stand_in(self, folder: Path) -> None:
        """Write untrained weights in place of those of a teacher to come."""
        save_tensors(folder / WEIGHTS, self.build_network().state_dict())

    def holdout_top1(self, network: nn.Module, data: RealData) -> float:
        """Accuracy (of another task, its score) in percent on the held-out images; moves the network to the CPU."""
        config = replace(self.device_config, callbacks=list)  # the user's own are for fits
        trainer = make_trainer(config, max_epochs=0, folder=self.store.root, validate=1)
        module = self.training(network, self.dataset.spec.num_classes, self.recipe, self.recipe.factor)
        return round(trainer.validate(module, datamodule=data, verbose=False)[0][module.score], 3)


def trajectory(base: BaseTraining) -> list[Member]:
    """Train the base model unless its snapshots, early to late, are in the store."""
    artifact = base.store.produce(
        "trajectory",
        base.content(),
        partial(train, base),
        collective=base.device_config.together,
        outlook=partial(_outlook, base),
    )
    members = []
    for record in artifact.facts["members"]:
        place = {"file": artifact.file(record["file"]), "identity": f"{artifact.fingerprint}/{record['epoch']}"}
        members.append(Member(network=base.network, **record | place))
    return members


def trajectories(trainings: Sequence[BaseTraining]) -> tuple[Trajectory, ...]:
    """The trajectory of each training, made unless it is in the store; runs that want the same ones share the work."""
    made: dict[int, Trajectory] = {}
    for index in trainings[0].store.unclaimed_first("trajectory", [one.content() for one in trainings]):
        one = trainings[index]
        made[index] = Trajectory(tuple(trajectory(one)), one.dataset.spec, one.seed, one.few_shot is not None)
    return tuple(made[index] for index in range(len(trainings)))


def _outlook(base: BaseTraining) -> Outlook:
    recipe, saved = base.recipe, base.saved
    unknown = {"seconds": math.nan, "top1_holdout": math.nan}
    members = [{"epoch": epoch, "file": snapshot_file(epoch), **unknown} for epoch in saved]

    def stand_in(folder: Path) -> None:
        first, *others = (folder / snapshot_file(epoch) for epoch in saved)
        save_tensors(first, base.build_network().state_dict())
        for path in others:
            path.symlink_to(first)

    what, alike = f"{base.network}, {counted(recipe.epochs, 'epoch')}", (base.network, recipe)
    return Outlook(what, {"members": members}, stand_in, alike, base.name)


def train(base: BaseTraining, folder: Path) -> dict[str, Any]:
    """Train the base model, in the folder of its snapshots."""
    recipe, network = base.recipe, base.build_network()
    # All held-out images take longer than an epoch of a few. The Trainer counts from its own start, so points lie as far apart.
    validate = 1 if base.few_shot is None else base.save_every
    resume = ResumePoint(folder / RESUME_FILE, RESUME_SECONDS, every=validate)
    done, notes = resume.restore(network)
    snapshots = SnapshotPool(folder, base.saved, **(notes or {}), name=base.name)
    resume.notes = lambda: {"records": snapshots.records, "seconds": snapshots.seconds}
    data = base.open_data(recipe.batch_size, first_epoch=done)
    steps = len(data.train_dataloader())
    trainer = make_trainer(
        base.device_config,
        max_epochs=recipe.epochs - done,
        folder=folder,
        logger=base.log.stage(base.name, first_step=done * steps),
        callbacks=[ProgressCallback(base.name, total=recipe.epochs * steps, done=done * steps), snapshots, resume],
        validate=validate,
    )
    if done < recipe.epochs:
        classes = base.dataset.spec.num_classes
        module = base.training(network, classes, recipe, recipe.factor, seed=base.seed, first_epoch=done)
        trainer.fit(module, datamodule=data)
    return {"members": snapshots.records}
