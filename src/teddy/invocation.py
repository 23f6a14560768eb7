"""The stages of a run in order, for every method; what diverges is noted, and the rest goes on without it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from teddy import factory
from teddy.config.errors import Diverged
from teddy.config.schema import STAGES
from teddy.evaluation.divergence import Divergence
from teddy.evaluation.split import EvalSplit
from teddy.evaluation.stage import Classification, Student, evaluate
from teddy.labels.stage import hard_labels, prepare_labels
from teddy.metadata import write_record, write_sets
from teddy.outcome import Outcome
from teddy.plan import Plan
from teddy.pool.trajectory import BaseTraining
from teddy.report import tables
from teddy.report.page import write_report
from teddy.report.results_log import append_result
from teddy.runtime import metrics
from teddy.runtime.distributed import is_leader
from teddy.runtime.loggers import writing
from teddy.runtime.progress import StageProgress
from teddy.synthesis.method import Inputs
from teddy.synthesis.stage import SyntheticImages, synthesize
from teddy.wandb_export import export

_log = logging.getLogger("teddy")


def open_invocation(plan: Plan, *arguments: Any) -> Invocation:
    """The run of a plan, by its task if it has one; ``arguments`` are the other fields of an :class:`Outcome`."""
    return (Invocation if plan.task is None else plan.task.invocation)(plan, *arguments)


class Invocation(Outcome):
    """One run of the pipeline: each stage finds its work in the store or does it, for every method of the run."""

    learning: ClassVar[Classification] = Classification()  # what students learn
    inputs: ClassVar[type[Inputs]] = Inputs  # what methods may read

    def run(self, command: str, overrides: list[str]) -> None:
        """Run the stages up to the last one that was asked for, and record the run."""
        last = self.stages()
        if is_leader() and self.methods:
            with writing(self.folder):
                write_record(self, command, overrides, self._inputs(next(iter(self.methods))).spec.class_names)
                sets = self.sets(command)
                page = write_report(self.folder) if last == "report" and self.rows else None
                if page is not None:
                    export(self)
                    tables.show(self.folder)
            for name, path in sets.items():
                print(f"Set:    {path} ({name})")
            if page is not None:
                print(f"Report: {page}\nRun:    {self.folder}")
        if self.diverged and is_leader():  # torchrun would stop the first process when another one has failed
            rest = "; everything else is done." if self.rows else "."
            raise Diverged("; ".join(one.removesuffix(".") for one in self.diverged) + rest)

    def sets(self, command: str) -> dict[str, Path]:
        """Write the folder of each method's set for others, and return it by method."""
        return write_sets(self, command)

    @contextmanager
    def _attempt(self, *methods: str) -> Iterator[None]:
        """Note that work has diverged, and go on without ``methods``."""
        try:
            yield
        except Diverged as error:  # its text alone: the error itself holds all tensors
            _log.error(str(error))
            self.diverged.append(str(error))
            for name in methods:
                del self.methods[name]

    def stages(self) -> str:
        """Run the stages up to the last one that was asked for, without the report, and return its name."""
        last = max(STAGES.index(stage) for stage in self.config.stages)
        try:
            for stage in STAGES[: last + 1]:
                if stage != "report" and self.methods:
                    getattr(self, f"_{stage}")()
        except SystemExit as stop:
            # Lightning ends an interrupted fit so: with 1 after Ctrl-C, and even with 0 after SIGTERM.
            raise KeyboardInterrupt from stop
        return STAGES[last]

    def _pool(self) -> None:
        base = self.base()
        strategies = {name: method.pool or self.plan.strategy for name, method in self.methods.items()}
        wanted = {name: one for name, one in strategies.items() if self._needs_pool(name)}
        for strategy in wanted.values():
            strategy.check(base)  # a base checkpoint of the wrong shape is found before hours of training, not after
        for name, method in self.methods.items():
            method.check_data(self.dataset.spec)
            method.check_run(strategies[name], base)
        for strategy in {id(one): one for one in wanted.values()}.values():
            names = [name for name, one in wanted.items() if one is strategy]
            with self._attempt(*names):
                pool = strategy.make(base)
                self.pools |= dict.fromkeys(names, pool)
                for member in pool.members:
                    facts = strategy.label, member.epoch, member.top1_holdout
                    _log.info("pool %s: epoch %g, %.1f %% on held-out images", *facts)

    def base(self) -> BaseTraining:
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
        node = self.config.synthesis
        for name, method in list(self.methods.items()):
            with self._attempt(name):
                images = self.images[name] = synthesize(
                    self.store,
                    method,
                    self._inputs(name),
                    self.device_config,
                    seed=node.seed,
                    log=self.log,
                    name=f"synthesis/{name}",
                    probe_every=node.probe_every,
                    checkpoint_every=node.checkpoint_every,
                    snapshot_every=node.snapshot_every,
                )
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
        images, labels = self.images, self.labels
        planned = {name: factory.students(self.config, images[name], labels.get(name)) for name in images}
        epochs = sum(student.protocol.epochs for students in planned.values() for student in students)
        with StageProgress("evaluation", total=epochs, unit="epochs") as progress:
            for name, students in planned.items():
                measure = factory.divergence(self.config, self.dataset, self.pools.get(name), self.device_config)
                for student in students:
                    self._student(name, student, split, images[name], progress, name, measure)

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
        common = self.device_config, self.log, progress, title, divergence, self.learning
        with self._attempt():
            artifact = evaluate(self.store, split, images, student, *common)
            row = self.result(name, student, split, artifact, classes)
            self.rows.append(row)
            if is_leader():
                with writing(self.folder):
                    append_result(self.folder / "results.jsonl", row)
