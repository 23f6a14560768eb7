"""What a finished run hands to Weights & Biases: final numbers, tables, pictures, and what came from what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from teddy.config.schema import TeddyConfig
from teddy.labels.stage import Labels
from teddy.pool.members import ModelPool
from teddy.report import tables
from teddy.report.ledger import Result
from teddy.runtime import metrics
from teddy.runtime.loggers import RunLog
from teddy.synthesis.stage import ImageFolderArtifact

COLUMNS = ("method", "protocol", "labels", "student", "seed", "top1")
COSTS = {
    "pool_seconds": metrics.COST_POOL_SECONDS,
    "synthesis_seconds": metrics.COST_SYNTHESIS_SECONDS,
    "synthesis_peak_memory_mb": metrics.COST_SYNTHESIS_PEAK_MEMORY_MB,
}


def publish(log: RunLog, config: TeddyConfig, folder: Path, rows: Sequence[Result], cost: Mapping[str, float]) -> None:
    """Numbers, the table of students, and the pictures of the report.

    Args:
        cost: of the run's own method, as in :class:`teddy.report.ledger.Result`.
    """
    for group in tables.group(rows):
        name = f"{group.method}/{group.protocol}/{group.labels}/{group.student}"
        spread = {} if group.std is None else {metrics.student(name, "top1_std"): group.std}
        log.summary({metrics.student(name): group.mean, **spread})
    log.summary({name: cost[key] for key, name in COSTS.items() if key in cost})
    distances = [nats for row in rows if row.method == config.method for nats in row.divergence.values()]
    if distances:
        log.summary({metrics.DIVERGENCE_MEAN: fmean(distances)})
    log.table("results", COLUMNS, [[getattr(row, column) for column in COLUMNS] for row in rows])
    for picture in sorted(folder.glob("figures/*.png")):
        log.image(f"report/{picture.stem}", picture)


def publish_lineage(
    log: RunLog, name: str, pool: ModelPool, images: ImageFolderArtifact, labels: Labels | None, made: set[str]
) -> None:
    """What the run's students came from: pool to images to labels.

    Weights and labels are told of, not uploaded: an ImageNet pool and its labels are gigabytes.

    Args:
        made: fingerprints of what this invocation made itself; the rest it found in the store.
    """
    teachers, pictures, answers = (f"{name}-{word}" for word in ("teachers", "images", "labels"))
    members = [{**asdict(member), "file": member.file.name, "history": None} for member in pool.members]
    log.artifact(
        teachers,
        "teachers",
        None,
        {"fingerprint": pool.fingerprint, "pool": pool.description, "seconds": pool.seconds, "members": members},
        made=any(member.identity.split("/")[0] in made for member in pool.members),
    )
    log.artifact(
        pictures,
        "synset",
        images.folder,
        {**images.artifact.facts, "fingerprint": images.fingerprint},
        parents=[teachers] if images.history else [],
        made=images.fingerprint in made,
    )
    if labels is not None:
        log.artifact(
            answers,
            "labels",
            None,
            {
                **labels.identity,
                "fingerprint": labels.fingerprint,
                "megabytes": labels.megabytes,
                "seconds": labels.seconds,
            },
            parents=[teachers, pictures],
            made=labels.kind != "stored" or labels.fingerprint in made,
        )
