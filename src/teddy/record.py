"""What a run writes down about itself beside its results: costs, losses, teachers, machine."""

from __future__ import annotations

import csv
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from teddy.labels.stage import Labels
from teddy.pool.members import ModelPool
from teddy.runtime import metrics
from teddy.runtime.precision import Compute
from teddy.synthesis.stage import ImageFolderArtifact

LOSSES = (
    metrics.SYNTHESIS_BLOCK,
    metrics.SYNTHESIS_ITERATION,
    metrics.SYNTHESIS_LOSS,
    metrics.SYNTHESIS_LOSS_CE,
    metrics.SYNTHESIS_LOSS_BN,
)


def cost(pool: ModelPool, images: ImageFolderArtifact, labels: Labels | None) -> dict[str, float]:
    """What came before the students of a method (see ``Result.cost``); random images took no time worth a word."""
    found = {"pool_seconds": pool.seconds}
    if images.history:
        found["synthesis_seconds"] = images.seconds
        if images.peak_memory_mb is not None:
            found["synthesis_peak_memory_mb"] = images.peak_memory_mb
    if labels is not None:
        found |= {"labels_seconds": labels.seconds, "labels_mb": labels.megabytes}
    return found


def write_losses(folder: Path, name: str, images: ImageFolderArtifact) -> Path:
    """The recorded losses of synthesis as ``losses_<method>.csv``, a line for each block and recorded iteration."""
    path = folder / f"losses_{name}.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(LOSSES)
        for block, rows in enumerate(images.history):
            writer.writerows([block, *row] for row in rows)
    return path


def pool_members(pools: Mapping[str, ModelPool], main: str) -> list[dict[str, Any]]:
    """Every teacher of the run, early to late; chosen are those of its own method."""
    chosen = {member.identity for member in pools[main].members}
    known = {member.identity: member for pool in pools.values() for member in pool.members}
    return [
        {
            "epoch": member.epoch,
            "top1_holdout": member.top1_holdout,
            "top1_test": member.top1_test,
            "chosen": member.identity in chosen,
        }
        for member in sorted(known.values(), key=lambda member: member.epoch)
    ]


def facts(
    compute: Compute,
    store: Path,
    pool: ModelPool,
    images: Mapping[str, ImageFolderArtifact],
    labels: Iterable[Labels],
    main: str,
) -> dict[str, Any]:
    """Machine, versions, times, sizes and names of what the run made or found."""
    labels = list(labels)
    kept = {f"{one.kept}; {one.megabytes_in_full:.2f} MB in full": None for one in labels if one.kept}
    cuda = compute.accelerator == "cuda"
    device = torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()
    return {
        "hardware": f"{compute.accelerator} ({device}, {torch.get_num_threads()} threads), {compute.precision}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "seconds": {f"images of {name}": one.seconds for name, one in images.items() if one.history},
        "label_storage_mb": max((one.megabytes for one in labels), default=0.0),
        **({"labels_kept": ", ".join(kept)} if kept else {}),
        "pool": pool.description,
        "images": str(images[main].folder),
        "store": str(store),
        "fingerprints": {name: one.fingerprint for name, one in images.items()},
    }
