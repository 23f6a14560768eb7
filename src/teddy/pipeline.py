"""The stages in order: each finds its work in the store or does it, for every method of the run."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from rich.console import Console

from teddy import factory, metadata
from teddy.artifacts.store import Artifact, ArtifactStore, atomic_write
from teddy.config.build import factory_of
from teddy.config.command import to_yaml
from teddy.config.errors import Diverged
from teddy.config.schema import STAGES, TeddyConfig
from teddy.data.dataset import RealDataset
from teddy.evaluation.divergence import Divergence
from teddy.evaluation.split import EvalSplit
from teddy.evaluation.stage import Classification, Student, evaluate
from teddy.labels.stage import Labels, hard_labels, prepare_labels
from teddy.plan import Plan
from teddy.pool.members import ModelPool
from teddy.pool.trajectory import BaseTraining, train
from teddy.report import tables
from teddy.report.page import write_report
from teddy.report.results_log import Result, ResultsLog
from teddy.runtime import distributed, metrics
from teddy.runtime.device import DeviceConfig, default_threads
from teddy.runtime.distributed import is_leader
from teddy.runtime.forecast import Forecast, RunProgress
from teddy.runtime.loggers import RunLog, open_loggers, writing
from teddy.runtime.progress import StageProgress
from teddy.sets.folder import write_set
from teddy.synthesis.method import Inputs
from teddy.synthesis.stage import ImageFolderArtifact, SyntheticImages, synthesize
from teddy.wandb_export import export_lineage, export_results

STAGE_OF_KIND = {
    "trajectory": "pool",
    "base": "pool",
    "pruned": "pool",
    "images": "synthesis",
    "labels": "labels",
    "students": "evaluation",
}
MEASURE = True
"""Whether plans time the first units of each kind of work."""
_TIMES: dict[Any, Any] = {}
_log = logging.getLogger("teddy")
T = TypeVar("T")


def run(plan: Plan, folder: Path, command: str, overrides: list[str], title: str, where: str) -> list[Result]:
    """Run one invocation, write its records to ``folder`` and return its results.

    Args:
        command: as it was typed.
        overrides: of this job, as Hydra composed it.
        title: tells it from other invocations in a dashboard.
        where: the override that names the output folder, so that all processes of a run use the same.

    Raises:
        UserError: something the user gave cannot be used.
        StageFailed: a stage could not be finished.
        Diverged: some units could not, and everything that does not need them is done.
        KeyboardInterrupt: the process was told to stop.
    """
    config = plan.config
    device_config = _device(config)
    devices, nodes = device_config.devices, device_config.num_nodes
    distributed.launch(devices, nodes, [*sys.argv[1:], where])
    distributed.init(device_config.accelerator, devices, nodes)
    folder = distributed.broadcast(folder)  # processes that srun started each name their own
    store = _store(config)
    dataset = factory.dataset_of(config, plan.source)
    factory.check_size(config, plan.methods, dataset, store.root)
    with writing(folder):
        if is_leader():
            folder.mkdir(parents=True, exist_ok=True)
            logging.raiseExceptions = False  # a full disk is reported once, not by every line of this file
            logging.getLogger().addHandler(logging.FileHandler(folder / "teddy.log", delay=True))
            StageProgress.whole = _announce(plan, store, dataset, device_config)
        log = open_loggers(
            {name: factory_of(f"logger.{name}", node) for name, node in config.logger.items()},
            folder,
            name=title,
            group=config.name,
            job_type="+".join(config.stages),
            tags=[config.dataset.name, f"ipc{config.synthesis.ipc}", plan.strategy.label],
            config={**asdict(config), "dataset_fingerprint": dataset.fingerprint, "command": command},
        )
        if is_leader():
            metadata.say_data(dataset)
            if config.chosen is not None:
                _log.info("Chosen for them, and changed by typing another value: %s", config.chosen)
            atomic_write(folder / "config.yaml", to_yaml(config))
            store.record = folder / "artifacts.txt"
    code = 1
    try:
        make = Invocation if plan.task is None else plan.task.invocation
        invocation = make(plan, folder, store, dataset, device_config, log)
        invocation.run(command, overrides)
        code = 0
        return invocation.rows
    except SystemExit as stop:
        # Lightning ends an interrupted fit so: with 1 after Ctrl-C, and even with 0 after SIGTERM.
        raise KeyboardInterrupt from stop
    except OSError as error:
        if error.filename not in (None, str(store.record)):
            raise
        with writing(folder):  # the store's own errors are no OSError
            raise
    finally:
        StageProgress.whole = None
        log.finish(code)


def preview(plan: Plan) -> Forecast:
    """Print what a run will find and make, and how long it takes, without writing anything.

    Raises:
        UserError: as :func:`run`, for what can be known beforehand.
    """
    config = plan.config
    device_config = _device(config)
    store, dataset = _store(config), factory.dataset_of(config, plan.source)
    factory.check_size(config, plan.methods, dataset, store.root)
    forecast = _forecast(plan, store, dataset, device_config)
    print(_headline(plan, device_config), *forecast.lines(STAGE_OF_KIND), sep="\n", flush=True)
    return forecast


def _device(config: TeddyConfig) -> DeviceConfig:
    """The machine, with its number of threads set."""
    device_config = factory.device_config_of(config)
    torch.set_num_threads(config.trainer.threads or default_threads())
    return device_config


def _store(config: TeddyConfig) -> ArtifactStore:
    store = ArtifactStore(Path(config.store))
    store.closed = {kind: stage for kind, stage in STAGE_OF_KIND.items() if stage not in config.stages}
    return store


def _forecast(plan: Plan, store: ArtifactStore, dataset: RealDataset, device_config: DeviceConfig) -> Forecast:
    """What the stages would find and make; each builds its own description of that."""
    alone = device_config.devices * device_config.num_nodes == 1
    make = Invocation if plan.task is None else plan.task.invocation
    with tempfile.TemporaryDirectory(prefix="teddy-") as name:
        folder = Path(name)
        forecast = Forecast(store, folder, MEASURE and alone, _TIMES)
        invocation = make(plan, folder, forecast, dataset, device_config, RunLog(folder))
        base = invocation._base()
        forecast.sample = ((base.network, base.recipe), base.name), partial(train, base), base.recipe.batch_size
        try:
            with forecast.quiet():
                invocation.stages()
        except SystemExit as stop:  # Lightning's, as in run
            raise KeyboardInterrupt from stop
    return forecast


def _announce(plan: Plan, store: ArtifactStore, dataset: RealDataset, device_config: DeviceConfig) -> RunProgress:
    forecast = _forecast(plan, store, dataset, device_config)
    for line in (_headline(plan, device_config), *forecast.lines(STAGE_OF_KIND, short=True)):
        _log.info(line)
    return RunProgress(store, forecast.items)


def _headline(plan: Plan, device_config: DeviceConfig) -> str:
    return f"{plan.config.name}: {', '.join(plan.config.stages)} on {metadata.hardware(device_config)}"


class Invocation:
    """One run of the pipeline: what its stages have made so far, by method."""

    learning: ClassVar[Classification] = Classification()
    """What students learn."""
    inputs: ClassVar[type[Inputs]] = Inputs
    """What methods may read."""

    def __init__(
        self, plan: Plan, folder: Path, store: ArtifactStore, dataset: RealDataset, device: DeviceConfig, log: RunLog
    ) -> None:
        self.plan, self.config, self.methods = plan, plan.config, dict(plan.methods)
        self.folder, self.store, self.dataset, self.device_config, self.log = folder, store, dataset, device, log
        self.pools: dict[str, ModelPool] = {}
        self.images: dict[str, ImageFolderArtifact] = {}
        self.labels: dict[str, Labels] = {}
        self.rows: list[Result] = []
        self.diverged: list[str] = []

    def run(self, command: str, overrides: list[str]) -> None:
        """Run the stages up to the last one that was asked for, and record the run."""
        last = self.stages()
        if is_leader() and self.methods:
            with writing(self.folder):
                self._record(command, overrides)
                sets = self._sets(command)
                page = self._report() if last == "report" and self.rows else None
            console = Console()
            for name, path in sets.items():
                console.print(f"Set:    {path} ({name})", soft_wrap=True)
            if page is not None:
                console.print(f"Report: {page}\nRun:    {self.folder}", soft_wrap=True)
        if self.diverged and is_leader():  # torchrun would stop the first process when another one has failed
            rest = "; everything else is done." if self.rows else "."
            raise Diverged("; ".join(one.removesuffix(".") for one in self.diverged) + rest)

    def _attempt(
        self, work: Callable[..., T], *arguments: Any, methods: Sequence[str] = (), **options: Any
    ) -> T | None:
        """Return what some work makes; None if it diverged, which is noted, and the run goes on without ``methods``."""
        try:
            return work(*arguments, **options)
        except Diverged as error:  # its text alone: the error itself holds all tensors
            _log.error(str(error))
            self.diverged.append(str(error))
        for name in methods:
            del self.methods[name]
        return None

    def stages(self) -> str:
        """Run the stages up to the last one that was asked for, without the report, and return its name."""
        last = max(STAGES.index(stage) for stage in self.config.stages)
        for stage in STAGES[: last + 1]:
            if stage != "report" and self.methods:
                getattr(self, f"_{stage}")()
        return STAGES[last]

    def _pool(self) -> None:
        base = self._base()
        strategies = {name: method.pool or self.plan.strategy for name, method in self.methods.items()}
        wanted = {name: one for name, one in strategies.items() if self._needs_pool(name)}
        for strategy in wanted.values():
            strategy.check(base)  # a base checkpoint of the wrong shape is found before hours of training, not after
        factory.check_labels(self.config, self.dataset)
        for name, method in self.methods.items():
            method.check_data(self.dataset.spec)
            method.check_run(strategies[name], base)
        for strategy in {id(one): one for one in wanted.values()}.values():
            names = [name for name, one in wanted.items() if one is strategy]
            pool = self._attempt(strategy.make, base, methods=names)
            self.pools |= {name: pool for name in names if pool is not None}
            for member in () if pool is None else pool.members:
                facts = strategy.label, member.epoch, member.top1_holdout
                _log.info("pool %s: epoch %g, %.1f %% on held-out images", *facts)

    def _base(self) -> BaseTraining:
        """The training of the base model."""
        return factory.base_training(self.config, self.store, self.dataset, self.device_config, self.log)

    def _inputs(self, name: str) -> Inputs:
        """What a method may read."""
        pool = partial(self.pools.__getitem__, name)
        return self.inputs(self.dataset, self.store, pool, self.config.dataset.holdout, self.config.seed)

    def _needs_pool(self, name: str) -> bool:
        soft = factory.needs_soft_labels(self.config) and self.config.labels.kind != "hard"
        return self.methods[name].needs().pool or soft or self.config.evaluation.divergence

    def _synthesis(self) -> None:
        for name, method in list(self.methods.items()):
            images = self._attempt(
                synthesize,
                self.store,
                method,
                self._inputs(name),
                self.device_config,
                seed=self.config.synthesis.seed,
                log=self.log,
                name=f"synthesis/{name}",
                probe_every=self.config.synthesis.probe_every,
                checkpoint_every=self.config.synthesis.checkpoint_every,
                snapshot_every=self.config.synthesis.snapshot_every,
                methods=[name],
            )
            if images is not None:
                self.images[name] = images
                _log.info("images: %s in %s", name, images.folder)

    def _labels(self) -> None:
        if not factory.needs_soft_labels(self.config):
            return
        for name, images in self.images.items():
            pool = self.pools.get(name)
            if pool is None:  # class indices alone
                self.labels[name] = hard_labels(images)
                continue
            recipe = factory.label_recipe(self.config, pool)
            labels = self.labels[name] = prepare_labels(self.store, pool, images, recipe, self.device_config)
            if labels.megabytes:
                sizes = labels.megabytes, labels.megabytes_in_full
                _log.info("labels: %s, %.2f MB stored (%.2f MB in full)", name, *sizes)
        self.log.summary({metrics.LABELS_STORAGE_MB: max(labels.megabytes for labels in self.labels.values())})

    def _evaluation(self) -> None:
        split = factory.eval_split(self.config, self.dataset)
        planned = {
            name: factory.students(self.config, images, self.labels.get(name)) for name, images in self.images.items()
        }
        epochs = sum(student.protocol.epochs for students in planned.values() for student in students)
        with StageProgress("evaluation", total=epochs, unit="epochs") as progress:
            for name, students in planned.items():
                pool, images = self.pools.get(name), self.images[name]
                divergence = None
                if pool is not None:
                    divergence = factory.divergence(self.config, self.dataset, pool, self.device_config)
                for student in students:
                    self._student(name, student, split, images, progress, name, divergence)

    def _student(
        self,
        name: str,
        student: Student,
        split: EvalSplit,
        images: SyntheticImages,
        progress: StageProgress,
        title: str,
        divergence: Divergence | None = None,
        classes: int = 0,
    ) -> None:
        """Train and measure a student, and add it to the run's results, in memory and on disk."""
        common = (self.device_config, self.log, progress, title, divergence, self.learning)
        artifact = self._attempt(evaluate, self.store, split, images, student, *common)
        if artifact is None:
            return
        row = replace(self._result(name, student, split, artifact), classes=classes)
        self.rows.append(row)
        if is_leader():
            with writing(self.folder):
                ResultsLog(self.folder / "results.jsonl").append(row)

    def _result(self, name: str, student: Student, split: EvalSplit, artifact: Artifact) -> Result:
        pool, images, method = self.pools.get(name), self.images[name], self.methods[name]
        fingerprints = {"images": images.fingerprint, "student": artifact.fingerprint}
        soft = student.labels.kind != "hard"
        labels = student.labels if soft else None
        return Result(
            dataset=self.config.dataset.name,
            ipc=method.ipc,
            method=name,
            title=method.title or name,
            baseline=method.baseline,
            pool=pool.description if pool else "",
            labels=student.labels.kind,
            protocol=" ".join(filter(None, (student.protocol_name, split.name))),
            student=student.network,
            seed=student.seed,
            top1=artifact.facts["top1"],
            measure=artifact.facts.get("measure", "top1"),
            macro_f1=artifact.facts.get("macro_f1"),  # an earlier version measured none
            coco_map=artifact.facts.get("coco_map"),
            seconds=artifact.facts["seconds"],
            peak_memory_mb=artifact.facts["peak_memory_mb"],
            fingerprints=fingerprints | ({"pool": pool.fingerprint} if pool else {}),
            cost=metadata.cost(pool if method.needs().pool or soft else None, images, labels),
            divergence=artifact.facts.get("divergence", {}),
        )

    def _record(self, command: str, overrides: list[str]) -> None:
        """Write what a report of the run reads besides its results."""
        for name, images in self.images.items():
            if images.terms is not None:
                atomic_write(self.folder / f"terms_{name}.csv", images.terms.read_bytes())
        facts = metadata.facts(self.device_config, self.store.root, self.pools, self.images, self.labels)
        if self.config.search is not None and self.config.evaluation.split == "test":
            facts["settings"] = "the best of a search on held-out training images"
        record = json.dumps(  # methods in the order typed
            {
                "name": self.config.name,
                "command": command,
                "overrides": metadata.override_values(overrides),
                "methods": {
                    name: metadata.method_entry(name, self.methods[name], images, self.pools.get(name))
                    for name, images in self.images.items()
                },
                "class_names": self._inputs(next(iter(self.methods))).spec.class_names,
                "pool": metadata.pool_members(self.pools),
                "paper": self.config.paper,
                "facts": facts,
            },
            indent=1,
        )
        atomic_write(self.folder / "run.json", record + "\n")
        if (chosen := self.dataset.chosen) is not None:
            atomic_write(self.folder / "training_images.json", metadata.training_images(self.dataset, chosen) + "\n")
        if (drawn := self.dataset.loaded.drawn) is not None:
            atomic_write(self.folder / "split.json", json.dumps(drawn, indent=1) + "\n")

    def _sets(self, command: str) -> dict[str, Path]:
        """Write the folder of each method's set for others."""
        made = {}
        for name, images in self.images.items():
            labels, path = self.labels.get(name), self.folder / "sets" / name
            facts = factory.label_facts(self.config, labels, self.device_config.precision)
            parts = {"images": images, "labels": labels, "pool": self.pools.get(name), "dataset": self.dataset}
            fingerprints = {key: part.fingerprint for key, part in parts.items() if part is not None}
            common = self.rows, command, fingerprints
            description = metadata.set_description(name, self.methods[name], images, facts, *common)
            write_set(path, description, images, *((labels.teachers, labels.file) if labels else ()))
            made[name] = path
        return made

    def _report(self) -> Path:
        page = write_report(self.folder)
        export_results(self.log, self.folder, self.rows, self.rows[0].cost)
        made = {one.fingerprint for one in self.store.made}
        for name, images in self.images.items():
            export_lineage(
                self.log, f"{self.config.name}-{name}", self.pools.get(name), images, self.labels.get(name), made
            )
        Console().print(tables.console(self.folder))
        return page
