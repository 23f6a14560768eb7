"""What a run writes down about itself beside its results: costs, teachers, machine, overrides."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from teddy import __version__
from teddy.artifacts.fingerprint import fingerprint
from teddy.data.dataset import RealDataset
from teddy.data.distilled import ANNOTATIONS
from teddy.labels.stage import Labels
from teddy.pool.members import ModelPool
from teddy.report.results_log import Result
from teddy.runtime.device import DeviceConfig
from teddy.sets.description import DatasetFacts, Description, LabelFacts, MethodFacts
from teddy.sets.folder import WHITENING
from teddy.synthesis.method import Method
from teddy.synthesis.stage import IMAGES, ImageFolderArtifact

VERSIONS = {"teddy": __version__, "python": platform.python_version(), "torch": torch.__version__}

_log = logging.getLogger("teddy")


def cost(pool: ModelPool | None, images: ImageFolderArtifact, labels: Labels | None) -> dict[str, float]:
    """What came before the students of a method; see ``Result.cost``. Images that were not optimised cost nothing."""
    found = {"pool_seconds": pool.seconds} if pool else {}
    if images.terms is not None:
        found["synthesis_seconds"] = images.seconds
        if images.peak_memory_mb is not None:
            found["synthesis_peak_memory_mb"] = images.peak_memory_mb
    if labels is not None:
        found |= {"labels_seconds": labels.seconds, "labels_mb": labels.megabytes}
    return found


def method_entry(name: str, method: Method, images: ImageFolderArtifact, pool: ModelPool | None) -> dict[str, Any]:
    """A method's entry in ``run.json``."""
    snapshots = images.artifact.folder / "snapshots"
    return {
        "title": method.title or name,
        "citation": method.citation,
        "images": str(images.folder),
        "fingerprint": images.fingerprint,
        "pool": pool.description if pool else "",
        "terms": f"terms_{name}.csv" if images.terms is not None else None,
        "snapshots": str(snapshots) if snapshots.is_dir() else None,
    }


def set_description(
    name: str,
    method: Method,
    images: ImageFolderArtifact,
    labels: LabelFacts,
    rows: Sequence[Result],
    command: str,
    fingerprints: dict[str, str],
) -> Description:
    """What the folder of a method's set says of it, with its results among all ``rows`` of the run."""
    spec, boxes = images.spec, f"{IMAGES}/{ANNOTATIONS}"
    files = WHITENING if spec.whitening is not None else None, boxes if boxes in images.artifact.files else None
    return Description(
        name=f"{spec.name}-ipc{method.ipc}-{name}",
        method=MethodFacts(name, method.title or name, method.citation),
        dataset=DatasetFacts.of(spec, *files),
        ipc=method.ipc,
        labels=labels,
        tiles=images.artifact.facts.get("tiles", 1),
        learned_lr=images.learned_lr,
        results=_results(rows, name),
        command=command,
        fingerprints=fingerprints,
        versions=VERSIONS,
    )


def _results(rows: Sequence[Result], method: str) -> list[dict[str, Any]]:
    """The accuracies of a method by protocol, labels and network, each beside the baseline's."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        if row.method == method or row.baseline:
            facts = {"protocol": row.protocol, "labels": row.labels, "student": row.student, "measure": row.measure}
            entry = found.setdefault(tuple(facts.values()), {**facts, "top1": [], "baseline": []})
            if row.method == method:
                entry["top1"].append(row.top1)
            if row.baseline:
                entry["baseline"].append(row.top1)
    return [entry for entry in found.values() if entry["top1"]]


def pool_members(pools: Mapping[str, ModelPool]) -> list[dict[str, Any]]:
    """Every teacher of the run, early to late; chosen are those of the first method's pool."""
    chosen = {member.identity for pool in list(pools.values())[:1] for member in pool.members}
    known = {member.identity: member for pool in pools.values() for member in pool.members}
    return [
        {"epoch": one.epoch, "top1_holdout": one.top1_holdout, "chosen": one.identity in chosen}
        for one in sorted(known.values(), key=lambda member: member.epoch)
    ]


def training_images(dataset: RealDataset, chosen: torch.Tensor) -> str:
    """The training images that a run has of its dataset, as JSON: their indices, a checksum of these, and how many by class."""
    indices = chosen.tolist()
    counts = torch.bincount(dataset.train.labels, minlength=dataset.spec.num_classes).tolist()
    return json.dumps({"fingerprint": fingerprint(indices), "by_class": counts, "indices": indices})


def say_data(dataset: RealDataset) -> None:
    """Log what the data are."""
    loaded = dataset.loaded
    size, kind = f"{loaded.size} x {loaded.size}", "grey" if loaded.channels == 1 else "colour"
    counts = f"{len(dataset.train):,} training and {len(dataset.test):,} test images"
    _log.info("Data: %s of %s classes, %s, %s. %s", counts, f"{len(loaded.class_ids):,}", size, kind, loaded.remark)


def override_values(overrides: Sequence[str]) -> dict[str, str]:
    """Overrides by key: ``+experiment=a`` as ``experiment: a``; a deletion (``~key``) as ``key: none``."""
    words = [word.lstrip("+~").partition("=") for word in overrides]
    return {key.partition("@")[0]: value.strip("'\"") if equals else "none" for key, equals, value in words}


def hardware(device_config: DeviceConfig) -> str:
    """The machine in words: device, threads, processes, precision."""
    cuda = device_config.accelerator == "cuda"
    device = torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()
    processes = device_config.devices * device_config.num_nodes
    many = f", {processes} processes" if processes > 1 else ""
    return f"{device_config.accelerator} ({device}, {torch.get_num_threads()} threads{many}), {device_config.precision}"


def facts(
    device_config: DeviceConfig,
    store: Path,
    pools: Mapping[str, ModelPool],
    images: Mapping[str, ImageFolderArtifact],
    labels: Mapping[str, Labels],
) -> dict[str, Any]:
    """Machine, versions, times, sizes and names of what the run made or found."""
    kept = {
        f"{one.compression}; {one.megabytes_in_full:.2f} MB in full": None for one in labels.values() if one.compression
    }
    return {
        "hardware": hardware(device_config),
        "versions": VERSIONS,
        "seconds": {f"images of {name}": one.seconds for name, one in images.items() if one.terms is not None},
        "label_storage_mb": max((one.megabytes for one in labels.values()), default=0.0),
        **({"labels_kept": ", ".join(kept)} if kept else {}),
        "pools": {name: pool.description for name, pool in pools.items()},
        "store": str(store),
        "fingerprints": {name: one.fingerprint for name, one in images.items()},
    }
