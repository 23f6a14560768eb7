"""What a finished run hands to its loggers: final numbers, the table of students, pictures, and what came from what."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd  # type: ignore[import-untyped]

from teddy.outcome import Outcome
from teddy.report import tables
from teddy.runtime import metrics

SETTING = ["method", "protocol", "labels", "student"]


def export(run: Outcome) -> None:
    """Hand over the numbers, the table of students, the pictures of the report, and what each method's set came from."""
    log, rows, cost = run.log, run.rows, run.rows[0].cost
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
    for picture in sorted(run.folder.glob("figures/*.png")):
        log.image(f"report/{picture.stem}", picture)
    for method in run.images:
        _lineage(run, method)


def _lineage(run: Outcome, method: str) -> None:
    """What a method's students came from: pool to images to labels; as artifacts in W&B, as text elsewhere.

    Weights and labels are described, not uploaded: an ImageNet pool and its labels are gigabytes.
    """
    lines, log, name = [], run.log, f"{run.config.name}-{method}"
    pool, images, labels = run.pools.get(method), run.images[method], run.labels.get(method)
    made = {one.fingerprint for one in run.store.made}  # the rest was found

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
