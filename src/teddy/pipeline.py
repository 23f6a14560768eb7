"""The stages in order. Each finds its work in the store or does it; methods (Teddy and its baselines) go side by side."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path

import torch

from teddy import assembly, record
from teddy.artifacts.store import Artifact, ArtifactStore, atomic_write, write_json
from teddy.config.checks import check
from teddy.config.command import to_yaml
from teddy.config.schema import STAGES, BaselineConfig, TeddyConfig
from teddy.data.dataset import RealDataset
from teddy.evaluation.exam import Exam
from teddy.evaluation.stage import Student, evaluate
from teddy.labels.stage import Labels, prepare_labels
from teddy.models.names import check_networks
from teddy.pool.members import ModelPool
from teddy.publish import publish, publish_lineage
from teddy.report import tables
from teddy.report.ledger import Ledger, Result
from teddy.report.page import write_report
from teddy.runtime import metrics
from teddy.runtime.allocator import keep_freed_memory
from teddy.runtime.loggers import RunLog, open_log
from teddy.runtime.progress import StageProgress
from teddy.synthesis.stage import ImageFolderArtifact, distil, random_real

STAGE_OF_KIND = {
    "trajectory": "pool",
    "base": "pool",
    "pruned": "pool",
    "images": "synthesis",
    "labels": "labels",
    "students": "evaluation",
}
_log = logging.getLogger("teddy")


def run(config: TeddyConfig, folder: Path, command: list[str], title: str) -> None:
    """Runs one invocation and writes its records to ``folder``.

    Args:
        command: the words that repeat it.
        title: tells it from other invocations in a dashboard.

    Raises:
        BadInput: something the user gave cannot be used.
        StageFailed: a stage could not be finished.
        KeyboardInterrupt: the process was told to stop.
    """
    check(config)
    check_networks(config.model.name, *config.evaluation.students)
    keep_freed_memory()
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    store = ArtifactStore(Path(config.store))
    store.closed = {kind: stage for kind, stage in STAGE_OF_KIND.items() if stage not in config.stages}
    dataset = assembly.dataset_of(config)
    words = " ".join(command)
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / "config.yaml", to_yaml(config))
    log = open_log(
        folder,
        config.logger.mode,
        project=config.logger.project,
        entity=config.logger.entity,
        name=title,
        group=config.name,
        job_type="+".join(config.stages),
        tags=[config.dataset.name, f"ipc{config.synthesis.ipc}", config.pool.label],
        config={**asdict(config), "dataset_fingerprint": dataset.fingerprint, "command": words},
    )
    code = 1
    try:
        Invocation(config, folder, words, store, dataset, log).run()
        code = 0
    except SystemExit as stop:
        # Lightning ends an interrupted fit so: with 1 after Ctrl-C, and even with 0 after SIGTERM.
        raise KeyboardInterrupt from stop
    finally:
        log.finish(code)


class Invocation:
    """One run of the pipeline: what its stages have made so far, by method."""

    def __init__(
        self, config: TeddyConfig, folder: Path, command: str, store: ArtifactStore, dataset: RealDataset, log: RunLog
    ) -> None:
        self.config, self.folder, self.command = config, folder, command
        self.store, self.dataset, self.log = store, dataset, log
        self.compute = assembly.compute_of(config)
        self.main = config.method
        self.methods = {self.main: BaselineConfig(images=config.images), **config.baselines}
        self.pools: dict[str, ModelPool] = {}
        self.images: dict[str, ImageFolderArtifact] = {}
        self.labels: dict[str, Labels] = {}
        self.rows: list[Result] = []

    def run(self) -> None:
        """Runs the stages up to the last one that was asked for."""
        last = max(STAGES.index(stage) for stage in self.config.stages)
        for stage in STAGES[: last + 1]:
            getattr(self, f"_{stage}")()

    def _pool(self) -> None:
        makers = {
            name: assembly.pool_maker(self.config, method, self.store, self.dataset, self.compute, self.log)
            for name, method in self.methods.items()
            if name == self.main or method.pool is not None
        }
        for maker in makers.values():
            maker.check()  # a base checkpoint of the wrong shape is found before hours of training, not after
        assembly.check_labels(self.config, self.dataset)
        made = {name: maker.make() for name, maker in makers.items()}
        self.pools = {name: made.get(name, made[self.main]) for name in self.methods}
        for member in self.pools[self.main].members:
            _log.info(
                "pool: epoch %g, held-out accuracy %.1f %%, test accuracy %.1f %%",
                member.epoch,
                member.top1_holdout,
                member.top1_test,
            )

    def _synthesis(self) -> None:
        job = assembly.synthesis_job(self.config, self.pools[self.main], self.dataset)
        for name, method in self.methods.items():
            if method.images == "random":
                self.images[name] = random_real(self.store, self.dataset, self.config.synthesis.ipc, self.config.seed)
            else:
                logger = self.log.stage("synthesis" if name == self.main else f"synthesis/{name}")
                one = assembly.method_job(job, method, self.pools[name])
                self.images[name] = distil(self.store, one, self.compute, logger)
        for name, images in self.images.items():
            _log.info("images: %s in %s", name, images.folder)

    def _labels(self) -> None:
        if not assembly.needs_soft_labels(self.config):
            return
        for name, images in self.images.items():
            recipe = assembly.label_recipe(self.config, self.pools[name])
            self.labels[name] = prepare_labels(self.store, self.pools[name], images, recipe, self.compute)
            if self.labels[name].megabytes:
                sizes = self.labels[name].megabytes, self.labels[name].megabytes_in_full
                _log.info("labels: %s, %.2f MB stored (%.2f MB in full)", name, *sizes)
        self.log.summary({metrics.LABELS_STORAGE_MB: max(labels.megabytes for labels in self.labels.values())})

    def _evaluation(self) -> None:
        ledger = Ledger(self.folder / "results.jsonl")
        planned = {
            name: assembly.students(self.config, images, self.labels.get(name)) for name, images in self.images.items()
        }
        exam = assembly.exam(self.config, self.dataset)
        epochs = sum(student.protocol.epochs for students in planned.values() for student in students)
        divergences = {
            name: assembly.divergence(self.config, self.dataset, pool, self.compute)
            for name, pool in self.pools.items()
        }
        with StageProgress("evaluation", total=epochs, unit="epochs") as progress:
            for name, students in planned.items():
                made = evaluate(
                    self.store,
                    exam,
                    self.images[name],
                    students,
                    self.compute,
                    self.log,
                    progress,
                    name,
                    self.config.evaluation.together,
                    divergences[name],
                )
                for student, artifact in zip(students, made, strict=True):
                    row = self._result(name, student, exam, artifact)
                    ledger.append(row)
                    self.rows.append(row)

    def _result(self, name: str, student: Student, exam: Exam, artifact: Artifact) -> Result:
        pool, images = self.pools[name], self.images[name]
        return Result(
            dataset=self.config.dataset.name,
            ipc=self.config.synthesis.ipc,
            method=name,
            pool=pool.description,
            labels=student.labels.kind,
            protocol=" ".join(filter(None, (student.protocol_name, exam.name))),
            student=student.network,
            seed=student.seed,
            top1=artifact.facts["top1"],
            seconds=artifact.facts["seconds"],
            peak_memory_mb=artifact.facts["peak_memory_mb"],
            fingerprints={"pool": pool.fingerprint, "images": images.fingerprint, "student": artifact.fingerprint},
            cost=record.cost(pool, images, self.labels.get(name)),
            divergence=artifact.facts.get("divergence", {}),
        )

    def _report(self) -> None:
        frames = self.images[self.main].frames()
        losses = {name: record.write_losses(self.folder, name, one) for name, one in self.images.items() if one.history}
        names = self.dataset.spec.class_names
        members = record.pool_members(self.pools, self.main)
        pool, images, labels = self.pools[self.main], self.images[self.main], self.labels.get(self.main)
        facts = record.facts(self.compute, self.store.root, pool, self.images, self.labels.values(), self.main)
        write_json(
            self.folder / "run.json",
            {
                "name": self.config.name,
                "command": self.command,
                "images": {name: str(one.folder.absolute()) for name, one in self.images.items()},
                "fingerprints": facts["fingerprints"],
                "facts": facts,
                "pool": members,
                "class_names": names,
                "paper": self.config.paper,
            },
        )
        page = write_report(
            self.folder,
            self.rows,
            title=self.config.name,
            command=self.command,
            config_yaml=to_yaml(self.config),
            pool_members=members,
            images={name: (one.images.images.numpy(), one.images.labels.numpy()) for name, one in self.images.items()},
            class_names=names,
            curves=losses.get(self.main, ()),
            paper=self.config.paper,
            facts=facts,
            snapshots=[(frame.iteration, frame.images.numpy()) for frame in frames],
            snapshot_names=[names[label] for label in frames[0].classes] if frames else [],
        )
        publish(self.log, self.config, self.folder, self.rows, record.cost(pool, images, labels))
        made = {one.fingerprint for one in self.store.made}
        publish_lineage(self.log, self.config.name, pool, images, labels, made)
        groups = tables.group(self.rows)
        from rich.console import Console

        console = Console()
        console.print(tables.rich_table(groups, self.config.paper, title=self.config.name))
        for line in tables.sentences(groups):
            console.print(line)
        console.print(f"Report: {page}\nImages: {images.folder}\nRun:    {self.folder}", soft_wrap=True)
