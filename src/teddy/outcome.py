"""What a run has made so far, by method, and the row of a student in its results."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from teddy.artifacts.store import Artifact, ArtifactStore
from teddy.config.schema import TeddyConfig
from teddy.data.dataset import RealDataset
from teddy.evaluation.split import EvalSplit
from teddy.evaluation.stage import Student
from teddy.labels.stage import Labels
from teddy.plan import Plan
from teddy.pool.members import ModelPool
from teddy.report.results_log import Result
from teddy.runtime.device import DeviceConfig
from teddy.runtime.loggers import RunLog
from teddy.synthesis.method import Method
from teddy.synthesis.stage import ImageFolderArtifact

MEASURED = ("top1", "measure", "macro_f1", "coco_map", "seconds", "peak_memory_mb", "divergence")
"""What a student's facts and its row share; an earlier version measured fewer."""


@dataclass(eq=False)
class Outcome:
    """A run, and what it has made so far by method."""

    plan: Plan
    folder: Path
    store: ArtifactStore
    dataset: RealDataset
    device_config: DeviceConfig
    log: RunLog
    pools: dict[str, ModelPool] = field(default_factory=dict, init=False)
    images: dict[str, ImageFolderArtifact] = field(default_factory=dict, init=False)
    labels: dict[str, Labels] = field(default_factory=dict, init=False)
    rows: list[Result] = field(default_factory=list, init=False)
    # a sentence for each thing that could not be finished
    diverged: list[str] = field(default_factory=list, init=False)

    @property
    def config(self) -> TeddyConfig:
        return self.plan.config

    @cached_property
    def methods(self) -> dict[str, Method]:
        """The methods for which nothing has diverged so far, in the order typed."""
        return dict(self.plan.methods)

    def result(self, name: str, student: Student, split: EvalSplit, artifact: Artifact, classes: int) -> Result:
        """The row of a student in the run's results."""
        pool, images, method, facts = self.pools.get(name), self.images[name], self.methods[name], artifact.facts
        fingerprints = {"images": images.fingerprint, "student": artifact.fingerprint}
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
            fingerprints=fingerprints | ({"pool": pool.fingerprint} if pool else {}),
            cost=self._cost(name, student.labels),
            classes=classes,
            **{name: facts[name] for name in MEASURED if name in facts},
        )

    def _cost(self, name: str, labels: Labels) -> dict[str, float]:
        """What came before a student; see ``Result.cost``. Images that were not optimised cost nothing."""
        pool, images, soft = self.pools.get(name), self.images[name], labels.kind != "hard"
        found = {"pool_seconds": pool.seconds} if pool and (soft or self.methods[name].needs().pool) else {}
        if images.terms is not None:
            found["synthesis_seconds"] = images.seconds
            if images.peak_memory_mb is not None:
                found["synthesis_peak_memory_mb"] = images.peak_memory_mb
        return found | ({"labels_seconds": labels.seconds, "labels_mb": labels.megabytes} if soft else {})
