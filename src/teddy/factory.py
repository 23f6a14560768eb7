"""From the typed configuration to the plain objects of the stages: the only file that knows both."""

from __future__ import annotations

import shutil
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.strategies import StrategyRegistry

from teddy.artifacts.store import ArtifactStore
from teddy.config.build import build
from teddy.config.checks import protocols, seeds
from teddy.config.errors import UserError
from teddy.config.schema import TeddyConfig
from teddy.data.augment import Augmentation
from teddy.data.dataset import RealDataset
from teddy.data.sources.base import Source
from teddy.evaluation.divergence import Divergence
from teddy.evaluation.protocol import Protocol
from teddy.evaluation.split import EvalSplit, open_split
from teddy.evaluation.stage import Student
from teddy.labels.compression import compression
from teddy.labels.stage import LabelRecipe, Labels, hard_labels
from teddy.labels.views import ViewRecipe
from teddy.plan import Plan
from teddy.pool.members import ModelPool
from teddy.pool.schedule import Recipe
from teddy.pool.trajectory import BaseTraining
from teddy.runtime.device import DeviceConfig, default_threads, resolve_device, usable_cores
from teddy.runtime.loggers import RunLog
from teddy.runtime.memory import keep_freed_memory, machine_memory
from teddy.sets.description import LabelFacts, TeacherFacts
from teddy.synthesis.stage import SyntheticImages

STAGE_OF_KIND = {
    "trajectory": "pool",
    "base": "pool",
    "pruned": "pool",
    "images": "synthesis",
    "labels": "labels",
    "students": "evaluation",
}
"""The stage that makes each kind of artifact."""


def _shared(kind: type, node: Any, /, **others: Any) -> dict[str, Any]:
    """Arguments for a dataclass: the keys of a node that are its fields, replaced or completed by ``others``."""
    return {one.name: getattr(node, one.name) for one in fields(kind) if hasattr(node, one.name)} | others


def device_config_of(config: TeddyConfig) -> DeviceConfig:
    """The machine that the run uses, with its number of threads and malloc set; more loader processes than cores would only wait.

    UserError if this machine or Lightning does not have what is asked for.
    """
    trainer = config.trainer
    known = ["auto", *StrategyRegistry.available_strategies()]
    if trainer.strategy not in known:
        raise UserError(
            f"trainer.strategy={trainer.strategy} is unknown to Lightning; choose one of {', '.join(known)}."
        )
    torch.set_num_threads(trainer.threads or default_threads())
    keep_freed_memory()

    def callbacks() -> list[Callback]:
        return [build(f"trainer.callbacks.{name}", node) for name, node in trainer.callbacks.items()]

    workers = min(trainer.workers, usable_cores())
    return resolve_device(**_shared(DeviceConfig, trainer, workers=workers, callbacks=callbacks))


def store_and_dataset(plan: Plan) -> tuple[ArtifactStore, RealDataset]:
    """The store, in which only the stages that are asked for make anything, and the real dataset; UserError as of check_data."""
    store, dataset = ArtifactStore(Path(plan.config.store)), dataset_of(plan.config, plan.source)
    store.closed = {kind: stage for kind, stage in STAGE_OF_KIND.items() if stage not in plan.config.stages}
    check_data(plan.config, max(method.ipc for method in plan.methods.values()), dataset, store.root)
    return store, dataset


def dataset_of(config: TeddyConfig, source: Source) -> RealDataset:
    """The real dataset; its images are read when needed."""
    return RealDataset(**_shared(RealDataset, config.dataset, source=source))


def base_training(
    config: TeddyConfig, store: ArtifactStore, dataset: RealDataset, device_config: DeviceConfig, log: RunLog
) -> BaseTraining:
    """What a pool strategy works with; the training of the base model is shared by all pools of a run."""
    training = config.pool.training
    return BaseTraining(
        store=store,
        dataset=dataset,
        network=config.model.name,
        recipe=Recipe(**_shared(Recipe, training)),
        augment=Augmentation(**asdict(config.dataset.augment)),
        holdout=config.dataset.holdout,
        save_every=training.save_every,
        seed=config.seed,
        device_config=device_config,
        log=log,
    )


def eval_split(config: TeddyConfig, dataset: RealDataset) -> EvalSplit:
    """What students are measured on, and if that is asked for, followed on."""
    split = open_split(config.evaluation.split, dataset, config.dataset.holdout, config.seed)
    held = open_split("heldout", dataset, config.dataset.holdout, config.seed)
    return replace(split, curve=held.images if config.evaluation.curve else None)


def divergence(
    config: TeddyConfig, dataset: RealDataset, pool: ModelPool | None, device_config: DeviceConfig
) -> Divergence | None:
    """The measure of the distance of students to their teachers on held-out images, if that is asked for."""
    if pool is None or not config.evaluation.divergence:
        return None
    held = open_split("heldout", dataset, config.dataset.holdout, config.seed)
    return Divergence(pool, held.images, held.identity, device_config)


def check_data(config: TeddyConfig, ipc: int, dataset: RealDataset, store: Path) -> None:
    """Raise UserError if images or labels cannot fit this machine at all, or the data fewer classes than ``labels.top_k``."""
    loaded, labels = dataset.loaded, config.labels
    compression(len(loaded.class_ids), labels.top_k, labels.temperature)
    count = ipc * len(loaded.class_ids)
    batch, pixels = min(config.pool.training.batch_size, len(loaded.train)), loaded.channels * loaded.size**2
    needs = [
        ("synthesis.ipc", f"{count:,} images of {loaded.size} x {loaded.size} pixels", count * pixels),
        ("dataset.size or pool.training.batch_size", f"a batch of {batch:,} training images", 4 * batch * pixels),
    ]
    checks = [(*need, "memory", machine_memory()) for need in needs]
    if needs_soft_labels(config) and labels.kind == "stored":
        place = next(folder for folder in (store, *store.parents) if folder.is_dir())
        logits = label_epochs(config) * count * (labels.top_k or len(loaded.class_ids))
        key = "labels.epochs, evaluation.epochs or synthesis.ipc"
        checks.append((key, "stored labels", 2 * logits, "the disk of the store", shutil.disk_usage(place).total))
    for key, what, needed, kind, there in checks:
        if needed > there:
            sizes = f"take {needed / 1e9:,.0f} GB or more, and {kind} has {there / 1e9:,.0f} GB"
            raise UserError(f"{what} {sizes}; lower {key}.")


def label_recipe(config: TeddyConfig, pool: ModelPool) -> LabelRecipe:
    """How images are labelled; a pool that is smaller than ``labels.members`` is used in full."""
    node = config.labels
    members = None if node.members == "all" else min(int(node.members), len(pool))
    own = {"members": members, "epochs": label_epochs(config), "view": view_recipe(config), "seed": config.seed}
    return LabelRecipe(**_shared(LabelRecipe, node, **own))


def label_facts(config: TeddyConfig, labels: Labels | None, precision: str) -> LabelFacts:
    """What the folder of a set says of its labels; without any, its images have class indices."""
    node, kind = config.labels, "hard" if labels is None else labels.kind
    stored, members = kind == "stored", enumerate(labels.teachers if labels else ())
    own = {"kind": kind, "view": view_recipe(config), "seed": config.seed, "precision": precision}
    own |= {"epochs": label_epochs(config) if stored else None, "top_k": node.top_k if stored else None}
    teachers = [TeacherFacts.of(one, index, carried=not stored) for index, one in members]
    return LabelFacts(**_shared(LabelFacts, node, **own, teachers=teachers))


def label_epochs(config: TeddyConfig) -> int:
    """Epochs of views that are labelled: as many as the longest student's, unless a number is given."""
    soft = [protocol.epochs for protocol in protocol_list(config).values() if protocol.labels == "soft"]
    return config.labels.epochs or max(soft, default=1)


def view_recipe(config: TeddyConfig) -> ViewRecipe:
    """The views that are labelled and learned from."""
    return ViewRecipe(**_shared(ViewRecipe, config.labels))


def protocol_list(config: TeddyConfig, learned_lr: float | None = None) -> dict[str, Protocol]:
    """The chosen protocols by name, with the run's own number of epochs and batch size where given.

    The learning rate that belongs to a synthetic set, if any, is for the protocols that use it.
    """
    node = config.evaluation
    own = {key: value for key, value in (("epochs", node.epochs), ("batch_size", node.batch_size)) if value is not None}
    chosen = {}
    for name in protocols(config):
        values = asdict(node.protocols[name]) | own
        if values.pop("learned_lr") and learned_lr is not None:
            values["lr"] = learned_lr
        chosen[name] = Protocol(**values)
    return chosen


def students(config: TeddyConfig, images: SyntheticImages, soft: Labels | None) -> list[Student]:
    """Every student of one method: protocols × architectures × seeds."""
    return [
        Student(
            network=network,
            protocol_name=name,
            protocol=protocol,
            labels=soft if protocol.labels == "soft" and soft is not None else hard_labels(images),
            view=view_recipe(config),
            view_seed=config.seed,
            seed=seed,
        )
        for name, protocol in protocol_list(config, images.learned_lr).items()
        for network in config.evaluation.students
        for seed in seeds(config)
    ]


def needs_soft_labels(config: TeddyConfig) -> bool:
    """Whether any chosen protocol trains on soft labels."""
    return any(protocol.labels == "soft" for protocol in protocol_list(config).values())
