"""Runs read back from their folders: the students, the settings, and where the images lie."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from teddy.config.errors import BadInput
from teddy.report.ledger import Ledger, Result

RESULTS, CONFIG, RECORD, OVERRIDES, REPORT = (
    "results.jsonl",
    "config.yaml",
    "run.json",
    ".hydra/overrides.yaml",
    "results.md",
)
_log = logging.getLogger("teddy")


@dataclass(frozen=True)
class Run:
    """One run as its folder tells it; what the folder does not hold is empty.

    Attributes:
        settings: the resolved configuration by dotted key, e.g. ``synthesis.ipc``; a list is one value, as text.
        overrides: what the command line or the sweep gave to this run, by key or group, e.g. ``synthesis.ipc``, ``pool``,
            ``experiment``; the values as text.
        paper: published accuracies, as in :data:`teddy.report.tables.Published`.
        images: by method, the folder of PNG files by class.
        pool: the teachers, as in :func:`teddy.report.figures.pool_curve`.
    """

    folder: Path
    name: str
    rows: list[Result]
    settings: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, str] = field(default_factory=dict)
    paper: dict[str, list[float]] = field(default_factory=dict)
    command: str = ""
    images: dict[str, Path] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    pool: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Reads runs in the order given; a sweep stands for its jobs in the order of their numbers, and no run counts twice.

    A job that has no results, or that broke off, is named in a warning (:func:`unfinished`).

    Raises:
        BadInput: a folder is neither a run nor a sweep, holds no results at all, or has a damaged file.
    """
    jobs = _jobs(paths)
    for sentence in _unfinished(jobs):
        _log.warning(sentence)
    runs = [_read(folder) for folder in jobs if _has_rows(folder)]
    if not runs:
        names = ", ".join(map(str, paths)) or "no folder"
        raise BadInput(f"There are no results in {names}; give folders of runs whose evaluation has begun.")
    return runs


def unfinished(paths: Sequence[Path]) -> list[str]:
    """A sentence for every run that has no results or no report of its own yet."""
    return list(_unfinished(_jobs(paths)))


def _unfinished(jobs: Sequence[Path]) -> Iterator[str]:
    for folder in jobs:
        if not _has_rows(folder):
            yield f"{folder} has no results and is left out: it failed or is not finished; run its command again."
        elif not (folder / REPORT).is_file() and "report" in _yaml(folder / CONFIG, dict).get("stages", ()):
            yield f"{folder} has no report of its own: it may have broken off, so seeds may be missing from its rows."


def is_run(folder: Path) -> bool:
    """Whether a folder is that of one run, finished or not."""
    return any((folder / name).exists() for name in (RESULTS, CONFIG, ".hydra"))


def jobs_of(folder: Path) -> list[Path]:
    """The folders of a sweep's jobs in the order of their numbers; none if this is no sweep."""
    if (folder / RESULTS).is_file() or not folder.is_dir():
        return []
    numbered = [child for child in folder.iterdir() if child.name.isdecimal() and child.is_dir()]
    return sorted((child for child in numbered if is_run(child)), key=lambda child: int(child.name))


def _jobs(paths: Sequence[Path]) -> list[Path]:
    found: dict[Path, Path] = {}
    for path in paths:
        some = jobs_of(path) or ([path] if is_run(path) else [])
        if not some:
            what = "holds neither a run nor a sweep" if path.is_dir() else "is no folder"
            raise BadInput(
                f"{path} {what}; give the folder of a run (with {RESULTS}) or of a sweep (with the numbered folders of its jobs)."
            )
        for folder in some:
            found.setdefault(folder.resolve(), folder)
    return list(found.values())


def _has_rows(folder: Path) -> bool:
    path = folder / RESULTS
    return path.is_file() and b"\n" in path.read_bytes()


def _read(folder: Path) -> Run:
    rows, record, config = Ledger(folder / RESULTS).rows, _json(folder / RECORD), _yaml(folder / CONFIG, dict)
    paper = config.pop("paper", None) or record.get("paper") or {}
    settings = dict(_flat(config))
    return Run(
        folder=folder,
        name=str(record.get("name") or settings.get("name") or folder.resolve().name),
        rows=rows,
        settings=settings,
        overrides=dict(filter(None, map(_split, _yaml(folder / OVERRIDES, list)))),
        paper={key: _numbers(value) for key, value in paper.items()},
        command=str(record.get("command", "")),
        images={method: Path(place) for method, place in record.get("images", {}).items()},
        class_names=tuple(record.get("class_names", ())),
        pool=list(record.get("pool", ())),
        facts=dict(record.get("facts", {})),
        fingerprints=dict(record.get("fingerprints", {})),
    )


def _yaml(path: Path, kind: type) -> Any:
    if not path.is_file():
        return kind()
    try:
        content = yaml.safe_load(path.read_text()) or kind()
    except yaml.YAMLError as error:
        raise BadInput(f"{path} is not YAML ({' '.join(str(error).split())}); restore it or run again.") from error
    if not isinstance(content, kind):
        raise BadInput(f"{path} is not the file that a run writes; restore it or run again.")
    return content


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise BadInput(f"{path} is not JSON ({error}); restore it or run again.") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} is not the file that a run writes; restore it or run again.")
    return content


def _flat(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, str(node) if isinstance(node, list) else node


def _split(word: Any) -> tuple[str, str] | None:
    """``+experiment=a`` as ``("experiment", "a")``; ``~baseline`` as ``("baseline", "none")``."""
    match = re.fullmatch(r"[+~]*([^=]+?)(?:=(.*))?", str(word), re.DOTALL)
    if match is None:
        return None
    key, value = match[1].partition("@")[0], match[2]
    return key, "none" if value is None else value.strip("'\"")


def _numbers(value: Any) -> list[float]:
    return [float(one) for one in (value if isinstance(value, list) else [value])]
