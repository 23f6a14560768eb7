"""Run folders read back: results, settings, and the paths of images and curves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from teddy.config.errors import UserError
from teddy.report.results_log import Result, read_results

RESULTS, CONFIG, RECORD, REPORT = "results.jsonl", "config.yaml", "run.json", "results.md"
Value = int | float | str | bool | None
NULL_MEANS = {"labels.top_k": "all"}  # for these keys null is a value like any other


@dataclass(frozen=True)
class Run:
    """One run; what its folder does not hold is empty."""

    folder: Path
    name: str
    results: list[Result]
    config: str  # the resolved configuration, as text
    settings: dict[str, Value]  # the same by dotted key, where a list is one value, as text
    overrides: dict[str, str]  # from the command line or the sweep, as text, by key or group, e.g. ``pool``
    methods: dict[str, dict[str, Any]]  # by name in the order typed, ``title`` and paths (:meth:`path`)
    paper: dict[str, list[float]]  # published percent, [mean, std] or [mean] by dataset/method/student/protocol/ipcN
    record: dict[str, Any]  # run.json

    def path(self, method: str, kind: str) -> Path | None:
        """Path of a method's ``images``, ``terms`` or ``snapshots``, or None if it is not there or an empty folder."""
        entry = self.methods.get(method, {}).get(kind)
        path = self.folder / (entry or "nothing")
        return path if path.is_file() or next(path.rglob("*.*"), None) else None

    def value(self, key: str) -> Value:
        """Look up a resolved setting, or the value from the command line for a group such as ``pool``."""
        if key in self.settings:
            return self._null(key) if self.settings[key] is None else self.settings[key]
        if key not in self.overrides:
            return self.name if key in ("name", "experiment") else None
        for kind in (int, float):
            try:
                return kind(self.overrides[key])
            except ValueError:
                continue
        return self.overrides[key]

    def _null(self, key: str) -> Value:
        """What null stands for: in ``evaluation`` the protocol's number, if the run has one protocol."""
        protocol = f"evaluation.protocols.{self.settings.get('evaluation.protocol')}."
        return NULL_MEANS.get(key, self.settings.get(key.replace("evaluation.", protocol, 1)))


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read runs in the order given, each once; a sweep is replaced by its jobs in the order of their numbers.

    Raises:
        UserError: a path is neither a run nor a sweep, there are no results at all, or a file is damaged.
    """
    runs = [_read(folder) for folder in _folders(paths) if _has_results(folder)]
    if not runs:
        names = ", ".join(map(str, paths))
        raise UserError(f"There are no results in {names}; give runs with at least one evaluated student.")
    return runs


def folder_names(runs: Sequence[Run]) -> list[str]:
    """Name runs by their folders, and jobs of several sweeps by their sweeps as well."""
    paths = [run.folder.resolve() for run in runs]
    unique = len({path.name for path in paths}) == len(paths)
    return [path.name if unique else f"{path.parent.name}/{path.name}" for path in paths]


def unfinished(paths: Sequence[Path]) -> list[str]:
    """Write a sentence for every job without results, or without the report that its stages ask for."""
    sentences = []
    for folder in _folders(paths):
        if not _has_results(folder):
            sentences.append(f"{folder} has no results and is left out: it failed or is not finished; run it again.")
        elif folder in paths or (folder / REPORT).is_file():
            continue
        elif "report" in _load(folder / CONFIG, yaml.safe_load).get("stages", ()):
            sentences.append(f"{folder} has no report of its own: it may be interrupted, with seeds missing.")
    return sentences


def jobs_of(folder: Path) -> list[Path]:
    """Folders of a sweep's jobs in the order of their numbers; empty if this is no sweep."""
    jobs = [] if (folder / RESULTS).is_file() else [job for job in folder.glob("[0-9]*") if job.name.isdecimal()]
    return sorted(filter(_is_run, jobs), key=lambda job: int(job.name))


def _is_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in (RESULTS, CONFIG, RECORD, ".hydra"))


def _folders(paths: Sequence[Path]) -> list[Path]:
    found: dict[Path, Path] = {}
    for path in paths:
        folders = jobs_of(path) or [path] * _is_run(path)
        if not folders:
            problem = "holds neither a run nor a sweep" if path.is_dir() else "is no folder"
            raise UserError(f"{path} {problem}; give the folder of a run (with {RESULTS}) or of a sweep.")
        for folder in folders:
            found.setdefault(folder.resolve(), folder)
    return list(found.values())


def _has_results(folder: Path) -> bool:
    return (folder / RESULTS).is_file() and b"\n" in (folder / RESULTS).read_bytes()


def _read(folder: Path) -> Run:
    results, record = read_results(folder / RESULTS), _load(folder / RECORD, json.loads)
    settings = dict(_flat(_load(folder / CONFIG, yaml.safe_load)))
    methods = record.get("methods", {})
    return Run(
        folder=folder,
        name=str(record.get("name") or settings.get("name") or folder.resolve().name),
        results=results,
        config=(folder / CONFIG).read_text() if settings else "",
        settings=settings,
        overrides=record.get("overrides", {}),
        methods=methods | {one.method: {"title": one.title} for one in results if one.method not in methods},
        paper=record.get("paper", {}),
        record=record,
    )


def _load(path: Path, parse: Any) -> dict[str, Any]:
    """Read the mapping in a YAML or JSON file; empty without that file."""
    if not path.is_file():
        return {}
    try:
        content = parse(path.read_text())
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())}); restore it or run again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not the file that a run writes; restore it or run again.")
    return content


def _flat(settings: dict[str, Any]) -> Iterator[tuple[str, Value]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{rest}", one) for rest, one in _flat(value))
        else:
            yield str(key), str(value) if isinstance(value, list) else value
