"""From the typed configuration to the plain objects of the stages: the only file that knows both."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace

from teddy.artifacts.store import ArtifactStore
from teddy.config.build import build
from teddy.config.checks import pool_of, protocols, seeds
from teddy.config.schema import BaselineConfig, PoolConfig, TeddyConfig
from teddy.data.augment import Augmentation
from teddy.data.dataset import RealDataset, open_dataset
from teddy.evaluation.divergence import Divergence
from teddy.evaluation.exam import Exam, open_exam
from teddy.evaluation.protocol import Protocol
from teddy.evaluation.stage import Student
from teddy.labels.packing import packing
from teddy.labels.stage import LabelRecipe, Labels, hard_labels
from teddy.labels.views import ViewRecipe
from teddy.pool.members import ModelPool
from teddy.pool.prior import PoolStrategy
from teddy.pool.schedule import Recipe
from teddy.pool.trajectory import BaseTraining
from teddy.runtime.loggers import RunLog
from teddy.runtime.precision import Compute, resolve_compute
from teddy.synthesis.job import SynthesisJob
from teddy.synthesis.objective import Weights
from teddy.synthesis.perturb import BlockView
from teddy.synthesis.stage import ImageFolderArtifact


def compute_of(config: TeddyConfig) -> Compute:
    """The machine that the run uses; more loader processes than cores would only wait for each other."""
    trainer = config.trainer
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return resolve_compute(trainer.accelerator, trainer.precision, trainer.devices, min(trainer.workers, cores))


def dataset_of(config: TeddyConfig) -> RealDataset:
    """The real dataset; its files are looked for now, its images are read when needed."""
    node = config.dataset
    return open_dataset(
        node.name,
        build(node.source),
        num_classes=node.num_classes,
        channels=node.channels,
        size=node.size,
        resize=node.resize,
        mean=node.mean,
        std=node.std,
        class_names=node.class_names,
        per_class=node.per_class,
    )


def base_training(
    config: TeddyConfig, pool: PoolConfig, store: ArtifactStore, dataset: RealDataset, compute: Compute, log: RunLog
) -> BaseTraining:
    """What a pool strategy works with."""
    recipe = asdict(pool.training)
    save_every = recipe.pop("save_every")
    return BaseTraining(
        store=store,
        dataset=dataset,
        network=config.model.name,
        recipe=Recipe(**recipe),
        augment=Augmentation(**asdict(config.dataset.augment)),
        holdout=config.dataset.holdout,
        save_every=save_every,
        seed=config.seed,
        compute=compute,
        log=log,
    )


@dataclass(frozen=True)
class PoolMaker:
    """A pool strategy with all that it works on."""

    strategy: PoolStrategy
    base: BaseTraining
    label: str

    def check(self) -> None:
        """Raises BadInput if the pool cannot be made from what was given."""
        self.strategy.check(self.base)

    def make(self) -> ModelPool:
        """The pool, made now or found in the store."""
        return self.strategy.make(self.base, self.label)


def pool_maker(
    config: TeddyConfig,
    method: BaselineConfig,
    store: ArtifactStore,
    dataset: RealDataset,
    compute: Compute,
    log: RunLog,
) -> PoolMaker:
    """The pool of one method: its own selection from the run's training, or the run's pool."""
    pool = config.pool if method.pool is None else pool_of(config, method.pool)
    return PoolMaker(build(pool.strategy), base_training(config, pool, store, dataset, compute, log), pool.label)


def synthesis_job(config: TeddyConfig, pool: ModelPool, dataset: RealDataset) -> SynthesisJob:
    """The optimisation that the configuration describes."""
    node = config.synthesis
    return SynthesisJob(
        pool=pool,
        train=dataset.train,
        ipc=node.ipc,
        iterations=node.iterations,
        plateau=node.plateau,
        lr=node.lr,
        betas=(node.betas[0], node.betas[1]),
        weight_decay=node.weight_decay,
        weights=Weights(ce=node.ce_weight, bn=node.bn_weight, first_bn=node.first_bn_weight),
        batch_size=node.batch_size,
        class_order=node.class_order,
        teachers_per_block=node.teachers_per_block,
        teacher_policy=node.teacher_policy,
        initial=node.initial,
        view=BlockView(**asdict(node.view)),
        seed=config.seed,
        checkpoint_every=node.checkpoint_every,
        sheet_every=node.sheet_every,
        blocks_at_once=node.blocks_at_once,
        compile=node.compile,
    )


def method_job(job: SynthesisJob, method: BaselineConfig, pool: ModelPool) -> SynthesisJob:
    """The run's optimisation against a method's pool; each block sees all of a pool that is smaller."""
    wanted = method.teachers_per_block or job.teachers_per_block
    iterations = method.iterations or job.iterations
    return replace(job, pool=pool, iterations=iterations, teachers_per_block=min(wanted, len(pool)))


def exam(config: TeddyConfig, dataset: RealDataset) -> Exam:
    """What students are measured on."""
    return open_exam(config.evaluation.split, dataset, config.dataset.holdout, config.seed)


def divergence(config: TeddyConfig, dataset: RealDataset, pool: ModelPool, compute: Compute) -> Divergence | None:
    """Measures the distance of students to their teachers on held-out images, if that is asked for."""
    if not config.evaluation.divergence:
        return None
    held = open_exam("heldout", dataset, config.dataset.holdout, config.seed)
    return Divergence(pool, held.images, held.identity, compute)


def check_labels(config: TeddyConfig, dataset: RealDataset) -> None:
    """Raises BadInput if a label is to keep as many logits as there are classes, or more; only the data may know these."""
    if config.labels.top_k is not None:
        packing(len(dataset.loaded.class_ids), config.labels.top_k, config.labels.temperature)


def label_recipe(config: TeddyConfig, pool: ModelPool) -> LabelRecipe:
    """How images are labelled; a baseline with a smaller pool uses all of it."""
    node = config.labels
    members = None if node.members == "all" else min(int(node.members), len(pool))
    soft = [protocol.epochs for protocol in protocol_list(config).values() if protocol.labels == "soft"]
    return LabelRecipe(
        kind=node.kind,
        members=members,
        member_policy=node.member_policy,
        temperature=node.temperature,
        average=node.average,
        batch_size=node.batch_size,
        epochs=node.epochs or max(soft, default=1),
        top_k=node.top_k,
        view=view_recipe(config),
        seed=config.seed,
    )


def view_recipe(config: TeddyConfig) -> ViewRecipe:
    """The views that are labelled and learned from."""
    node = config.labels
    return ViewRecipe(min_scale=node.min_scale, flip=node.flip, mix=node.mix, alpha=node.alpha)


def protocol_list(config: TeddyConfig) -> dict[str, Protocol]:
    """The chosen protocols by name, with the run's own number of epochs and batch size where given."""
    node = config.evaluation
    own = {key: value for key, value in (("epochs", node.epochs), ("batch_size", node.batch_size)) if value is not None}
    return {name: Protocol(**{**asdict(node.protocols[name]), **own}) for name in protocols(config)}


def students(config: TeddyConfig, images: ImageFolderArtifact, soft: Labels | None) -> list[Student]:
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
        for name, protocol in protocol_list(config).items()
        for network in config.evaluation.students
        for seed in seeds(config)
    ]


def needs_soft_labels(config: TeddyConfig) -> bool:
    """Whether any chosen protocol trains on soft labels."""
    return any(protocol.labels == "soft" for protocol in protocol_list(config).values())
