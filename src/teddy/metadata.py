"""What a run writes down about itself beside its results: machine, costs, teachers, overrides, descriptions of its sets."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from teddy import __version__, factory
from teddy.artifacts.fingerprint import fingerprint
from teddy.artifacts.store import atomic_write
from teddy.data.dataset import RealDataset
from teddy.data.distilled import ANNOTATIONS
from teddy.outcome import Outcome
from teddy.runtime.device import DeviceConfig
from teddy.runtime.progress import counted
from teddy.sets.description import DatasetFacts, Description, MethodFacts
from teddy.sets.folder import WHITENING, write_set
from teddy.synthesis.stage import IMAGES

VERSIONS = {"teddy": __version__, "python": platform.python_version(), "torch": torch.__version__}
_log = logging.getLogger("teddy")


def write_record(run: Outcome, command: str, overrides: Sequence[str], class_names: Sequence[str]) -> None:
    """Write what a report of a run reads besides its results, and which real images it has."""
    for name, images in run.images.items():
        if images.terms is not None:
            atomic_write(run.folder / f"terms_{name}.csv", images.terms.read_bytes())
    record = {
        "name": run.config.name,
        "command": command,
        "overrides": _by_key(overrides),
        "methods": {name: _method(run, name) for name in run.images},
        "class_names": class_names,
        "pool": _teachers(run),
        "paper": run.config.paper,
        "facts": _facts(run),
    }
    _write_json(run.folder / "run.json", record, indent=1)
    if (chosen := run.dataset.chosen) is not None:
        indices, classes = chosen.tolist(), run.dataset.spec.num_classes
        counts = torch.bincount(run.dataset.train.labels, minlength=classes).tolist()
        kept = {"fingerprint": fingerprint(indices), "by_class": counts, "indices": indices}
        _write_json(run.folder / "training_images.json", kept)
    if (drawn := run.dataset.loaded.drawn) is not None:
        _write_json(run.folder / "split.json", drawn, indent=1)


def write_sets(run: Outcome, command: str) -> dict[str, Path]:
    """Write the folder of each method's set for others, and return it by method."""
    made = {name: run.folder / "sets" / name for name in run.images}
    for name, path in made.items():
        images, labels = run.images[name], run.labels.get(name)
        write_set(path, _description(run, name, command), images, *((labels.teachers, labels.file) if labels else ()))
    return made


def say_data(dataset: RealDataset) -> None:
    """Log what the data are."""
    loaded = dataset.loaded
    size, kind = f"{loaded.size} x {loaded.size}", "grey" if loaded.channels == 1 else "colour"
    counts = f"{len(dataset.train):,} training and {len(dataset.test):,} test images"
    classes = f"{len(loaded.class_ids):,} classes"
    _log.info("Data: %s of %s, %s, %s. %s", counts, classes, size, kind, loaded.remark)


def hardware(device_config: DeviceConfig) -> str:
    """The machine in words: device, threads, processes, precision."""
    cuda = device_config.accelerator == "cuda"
    device = torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()
    many = f", {device_config.processes} processes" if device_config.processes > 1 else ""
    threads = counted(torch.get_num_threads(), "thread")
    return f"{device_config.accelerator} ({device}, {threads}{many}), {device_config.precision}"


def _write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Write JSON with its keys in order: methods stand as they were typed."""
    atomic_write(path, json.dumps(content, indent=indent) + "\n")


def _by_key(overrides: Sequence[str]) -> dict[str, str]:
    """Overrides by key: ``+experiment=a`` as ``experiment: a``; a deletion (``~key``) as ``key: none``."""
    words = [word.lstrip("+~").partition("=") for word in overrides]
    return {key.partition("@")[0]: value.strip("'\"") if equals else "none" for key, equals, value in words}


def _method(run: Outcome, name: str) -> dict[str, Any]:
    method, images, pool = run.methods[name], run.images[name], run.pools.get(name)
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


def _teachers(run: Outcome) -> list[dict[str, Any]]:
    """Every teacher of the run, early to late; chosen are those of the first method's pool."""
    pools = list(run.pools.values())
    chosen = {member.identity for pool in pools[:1] for member in pool.members}
    known = {member.identity: member for pool in pools for member in pool.members}
    return [
        {"epoch": member.epoch, "top1_holdout": member.top1_holdout, "chosen": member.identity in chosen}
        for member in sorted(known.values(), key=lambda member: member.epoch)
    ]


def _facts(run: Outcome) -> dict[str, Any]:
    """Machine, versions, times, sizes and names of what the run made or found."""
    labels = run.labels.values()
    kept = {f"{one.compression}; {one.megabytes_in_full:.2f} MB in full": None for one in labels if one.compression}
    facts = {
        "hardware": hardware(run.device_config),
        "versions": VERSIONS,
        "seconds": {f"images of {name}": one.seconds for name, one in run.images.items() if one.terms is not None},
        "label_storage_mb": max((one.megabytes for one in labels), default=0.0),
        **({"labels_kept": ", ".join(kept)} if kept else {}),
        "pools": {name: pool.description for name, pool in run.pools.items()},
        "store": str(run.store.root),
        "fingerprints": {name: one.fingerprint for name, one in run.images.items()},
    }
    if run.config.search is not None and run.config.evaluation.split == "test":
        facts["settings"] = "the best of a search on held-out training images"
    return facts


def _description(run: Outcome, name: str, command: str) -> Description:
    """What the folder of a method's set says of it."""
    method, images, labels = run.methods[name], run.images[name], run.labels.get(name)
    spec, boxes = images.spec, f"{IMAGES}/{ANNOTATIONS}"
    facts = spec.name, spec.class_ids, spec.class_names, spec.channels, spec.size, spec.mean, spec.std
    files = WHITENING if spec.whitening is not None else None, boxes if boxes in images.artifact.files else None
    parts = {"images": images, "labels": labels, "pool": run.pools.get(name), "dataset": run.dataset}
    return Description(
        name=f"{spec.name}-ipc{method.ipc}-{name}",
        method=MethodFacts(name, method.title or name, method.citation),
        dataset=DatasetFacts(*facts, *files),  # type: ignore[arg-type]
        ipc=method.ipc,
        labels=factory.label_facts(run.config, labels, run.device_config.precision),
        tiles=images.artifact.facts.get("tiles", 1),
        learned_lr=images.learned_lr,
        results=_accuracies(run, name),
        command=command,
        fingerprints={key: part.fingerprint for key, part in parts.items() if part is not None},
        versions=VERSIONS,
    )


def _accuracies(run: Outcome, method: str) -> list[dict[str, Any]]:
    """The accuracies of a method by protocol, labels and network, each beside the baseline's."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in run.rows:
        if row.method == method or row.baseline:
            facts = {"protocol": row.protocol, "labels": row.labels, "student": row.student, "measure": row.measure}
            entry = found.setdefault(tuple(facts.values()), {**facts, "top1": [], "baseline": []})
            if row.method == method:
                entry["top1"].append(row.top1)
            if row.baseline:
                entry["baseline"].append(row.top1)
    return [entry for entry in found.values() if entry["top1"]]
