"""What a finished run hands to its loggers: final numbers, the table of students, pictures, and what came from what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd  # type: ignore[import-untyped]

from teddy.labels.stage import Labels
from teddy.pool.members import ModelPool
from teddy.report import tables
from teddy.report.results_log import Result
from teddy.runtime import metrics
from teddy.runtime.loggers import RunLog
from teddy.synthesis.stage import ImageFolderArtifact

SETTING = ["method", "protocol", "labels", "student"]


def export_results(log: RunLog, folder: Path, rows: Sequence[Result], cost: Mapping[str, float]) -> None:
    """Numbers, among them the cost of the first method, the table of students, and the pictures of the report."""
    table = pd.DataFrame(rows)[[*SETTING, "seed", "measure", "top1"]]
    for (*setting, measure), some in table.groupby([*SETTING, "measure"], sort=False).top1:
        name = "/".join(setting)
        log.summary({metrics.student(name, measure): some.mean()})
        if len(some) > 1:
            log.summary({metrics.student(name, f"{measure}_std"): some.std()})
    log.summary({f"cost/{key}": value for key, value in cost.items() if f"cost/{key}" in metrics.FIXED})
    distances = [nats for row in rows if row.method == rows[0].method for nats in row.divergence.values()]
    if distances:
        log.summary({metrics.DIVERGENCE_MEAN: fmean(distances)})
    log.text("results", tables.markdown(table.astype(str)))
    if log.wandb is not None:
        log.wandb.table("results", table)
    for picture in sorted(folder.glob("figures/*.png")):
        log.image(f"report/{picture.stem}", picture)


def export_lineage(
    log: RunLog, name: str, pool: ModelPool | None, images: ImageFolderArtifact, labels: Labels | None, made: set[str]
) -> None:
    """What a method's students came from: pool to images to labels; as artifacts in W&B, as text elsewhere.

    Weights and labels are described, not uploaded: an ImageNet pool and its labels are gigabytes. ``made`` are the fingerprints
    of what this invocation made itself; the rest it found in the store.
    """
    lines = []

    def show(kind: str, type: str, folder: Path | None, facts: dict[str, Any], parents: list[str], made: bool) -> None:
        source = f", made from {' and '.join(parents)}" if parents else ""
        lines.append(f"- {kind} `{facts['fingerprint']}`, {'made' if made else 'found'} by this run{source}\n")
        if log.wandb is not None:
            log.wandb.artifact(f"{name}-{kind}", type, folder, facts, [f"{name}-{one}" for one in parents], made)

    if pool is not None:
        members = [{**asdict(member), "file": member.file.name, "history": None} for member in pool.members]
        facts = {"fingerprint": pool.fingerprint, "pool": pool.description, "seconds": pool.seconds, "members": members}
        new = any(member.identity.split("/")[0] in made for member in pool.members)
        show("teachers", "teachers", None, facts, [], new)
    facts = {**images.artifact.facts, "fingerprint": images.fingerprint}
    parents = ["teachers"] if pool is not None and images.terms is not None else []
    show("images", "synset", images.folder, facts, parents, images.fingerprint in made)
    if labels is not None and pool is not None:
        sizes = {"megabytes": labels.megabytes, "seconds": labels.seconds}
        facts = {**labels.identity, "fingerprint": labels.fingerprint, **sizes}
        new = labels.kind != "stored" or labels.fingerprint in made
        show("labels", "labels", None, facts, ["teachers", "images"], new)
    log.text(f"lineage/{name}", "".join(lines))
