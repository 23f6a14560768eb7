"""The report of several runs, such as the jobs of a sweep: one table, the charts of what was varied, one page."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from teddy.artifacts.store import atomic_write
from teddy.config.errors import BadInput
from teddy.report import ablation, efficiency, figures, sheets, stages, tables
from teddy.report import sweep as sweeps
from teddy.report.page import METHODS_CAPTION, Picture, notes_on, write_pages
from teddy.report.runs import Run, jobs_of, unfinished
from teddy.report.sweep import Row, Sweep

COMMAND = "python -m teddy.report"


def write(sweep: Sweep, folders: Sequence[Path], out: Path, title: str = "") -> Path:
    """Writes results.md, results.tex, results.csv, figures/ and index.html to ``out``.

    Args:
        sweep: the table that was collected from the runs in ``folders``.
        folders: as for :func:`teddy.report.runs.read_runs`.
        out: a folder that is not that of a run, whose own report would be overwritten; made if it is not there.
        title: by default the name of the sweep or runs.

    Returns:
        The path of ``index.html``.

    Raises:
        BadInput: ``out`` cannot be written to, or is the folder of a run.
    """
    runs = sweep.runs
    if out.resolve() in {run.folder.resolve() for run in runs}:
        raise BadInput(f"{out} is the folder of a run, whose own report stays there; give another folder with --out.")
    try:
        (out / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{out} cannot be written to ({error.strerror}); give another folder with --out.") from error
    title = title or title_of(folders, runs)
    pictures = _draw(sweep, out / "figures")
    atomic_write(out / "results.csv", sweeps.students_csv(sweep))
    atomic_write(out / "results.tex", sweeps.latex(sweep, title))
    _, head, lines = sweeps.condensed(sweep)
    commands = list(dict.fromkeys(run.command for run in runs if run.command))
    return write_pages(
        out,
        title=title,
        table=(head, lines),
        notes=[*_notes(sweep), *unfinished(folders)],
        sentences=sentences(sweep),
        pictures=pictures,
        facts=_facts(sweep),
        command="\n".join(commands) or f"{COMMAND} {' '.join(map(str, folders))}",
        config_yaml=_common(runs),
    )


def title_of(folders: Sequence[Path], runs: Sequence[Run]) -> str:
    """The names of the runs; a sweep adds what it varies."""
    every = list(dict.fromkeys(run.name for run in runs))
    names = ", ".join(every[:3]) + (f" and {len(every) - 3} more" if len(every) > 3 else "")
    keys = [key for key in sweeps.varied_keys(runs) if key != "name"]
    return f"{names}: {', '.join(keys)}" if keys and any(map(jobs_of, folders)) else names


def sentences(sweep: Sweep) -> list[str]:
    """What the table says: how far each numeric key moves the accuracy, measured by the spread over seeds; without such a
    key, how the methods compare.
    """
    keys = [
        key
        for key in ablation.keys_to_draw(sweep)
        if key == sweeps.SEED or (key != sweeps.IPC and sweeps.on_scale(sweep, key))
    ]
    if not keys:
        return tables.sentences([row.group for row in sweep.rows])
    told = []
    for key in keys:
        for title, panel in ablation.panels_of(sweep, key).items():
            names = ablation.lane_names(sweep, [*panel.lines, *panel.levels])
            moved = {lane: rows for lane, rows in panel.lines.items() if len(rows) > 1}
            ours = [lane for lane in moved if lane[0] == tables.OURS] or list(moved)
            told += [f"{title}: {names[lane]} {_range(sweep, key, moved[lane])}" for lane in ours]
    return told


def _range(sweep: Sweep, key: str, rows: Sequence[Row]) -> str:
    low, high = (pick(rows, key=lambda row: row.group.mean) for pick in (min, max))
    gain = high.group.mean - low.group.mean
    if key == sweeps.SEED:
        means = [row.group.mean for row in rows]
        return f"is {tables.with_spread(statistics.fmean(means), statistics.stdev(means))} over the runs with {len(rows)} seeds."
    best, worst = (f"{sweeps.said(sweep, row, key)} ({row.group.accuracy()})" for row in (high, low))
    ends = f"is best at {key} {best} and worst at {worst}"
    if low.group.std is None or high.group.std is None:
        return f"{ends}; with a single run each, the spread is unknown."
    spread = math.hypot(low.group.std, high.group.std)
    verdict = "more than" if gain > spread else "no more than"
    few = min(len(row.group.top1) for row in (low, high)) < tables.ENOUGH_SEEDS
    caution = f" Fewer than {tables.ENOUGH_SEEDS} seeds: take it as a hint." if few else ""
    return f"{ends}: {gain:.1f} points, {verdict} the spread of {spread:.1f}.{caution}"


def _draw(sweep: Sweep, folder: Path) -> list[Picture]:
    pictures = []
    for key in ablation.keys_to_draw(sweep):
        if path := ablation.ablation(sweep, key, folder / f"ablation_{key.replace('.', '_').replace('/', '_')}.png"):
            caption = (
                "Mean over seeds; whisker: sample standard deviation; dashed, with its standard deviation as a band: "
                "students that the key does not matter to."
            )
            pictures.append(Picture(path, f"Accuracy over {key}", caption))
    if not pictures and (path := figures.accuracy_bars([row.group for row in sweep.rows], folder / "accuracy.png")):
        caption = "Mean over seeds; whisker: sample standard deviation; dots: the single students."
        pictures.append(Picture(path, "Accuracy on the real test images", caption))
    if path := stages.stages(sweep, folder / "stages.png"):
        caption = (
            "Left: KL divergence from the student's predictions to each teacher's on held-out real images; right: what the "
            "images from these teachers are worth."
        )
        pictures.append(Picture(path, "Teachers of several stages", caption))
    if path := efficiency.efficiency(sweep, folder / "efficiency.png"):
        caption = (
            "Training of the teachers and synthesis together; the area of a marker, and the figure beside it, is the peak "
            "memory of synthesis."
        )
        pictures.append(Picture(path, "Time and memory", caption))
    return pictures + _sheets(sweep, folder)


def _sheets(sweep: Sweep, folder: Path) -> list[Picture]:
    """A sheet for each dataset of which several methods or runs have images."""
    datasets: dict[str, list[Run]] = {}
    for run in sweep.runs:
        datasets.setdefault(run.rows[0].dataset, []).append(run)
    pictures = []
    for dataset, runs in datasets.items():
        places = image_folders(sweep, runs)
        common = min((len(sheets.class_folders(place)) for place in places.values()), default=0)
        if len(places) < 2 or not common:
            continue
        classes = sheets.classes_to_compare(range(common), len(places))
        shown = {name: sheets.read_folder(place, classes) for name, place in places.items()}
        if not any(shown.values()):
            continue
        names = next((run.class_names for run in runs if run.class_names), ())
        path = folder / ("methods.png" if len(datasets) == 1 else f"methods_{dataset}.png")
        sheets.method_sheet(
            shown, names or [place.name for place in sheets.class_folders(next(iter(places.values())))], path
        )
        heading = "The methods side by side" if len(datasets) == 1 else f"The methods side by side: {dataset}"
        pictures.append(Picture(path, heading, METHODS_CAPTION))
    return pictures


def image_folders(sweep: Sweep, runs: Sequence[Run]) -> dict[str, Path]:
    """The folders of images that are there, each once, under names that tell them apart: the method and, where several runs
    have one, its pool or what was varied.
    """
    found: dict[Path, tuple[str, Run]] = {}
    for run in runs:
        for method, place in run.images.items():
            if sheets.class_folders(place):
                found.setdefault(place.resolve(), (method, run))
    entries = sorted(
        ((method, run, place) for place, (method, run) in found.items()), key=lambda one: tables.place_of(one[0])
    )
    named: dict[str, Path] = {}
    for method, run, place in entries:
        name = tables.SHORT.get(method, method)
        rivals = [other for one, other, _ in entries if one == method]
        if len(rivals) > 1:
            pools = [str(other.settings.get("pool.label", "")) for other in rivals]
            own = str(run.settings.get("pool.label", ""))
            name += f" {own}" if len(set(pools)) == len(pools) else f", {_varied(sweep, run)}"
        named[name if name not in named else f"{name} ({run.folder.resolve().name})"] = place
    return named


def _varied(sweep: Sweep, run: Run) -> str:
    texts = []
    for key, values in sweep.values.items():
        value = sweeps.value_of(run, key)
        short = dict(zip(values, ablation.short_names([sweeps.text(one) for one in values]), strict=True))[value]
        texts.append(f"{sweeps.short_key(key)} {short}" if sweeps.is_number(value) else short)
    return ", ".join(texts)


def _notes(sweep: Sweep) -> list[str]:
    notes = notes_on([row.group for row in sweep.rows])
    if same := sweeps.shared(sweep):
        notes.insert(0, f"In all rows: {same}.")
    if any(sweep.any_of(row, key) for row in sweep.rows for key in sweep.values):
        notes.append(
            f"“{sweeps.ANY}”: the key does not matter to these students, so they were trained once and stand once."
        )
    if any(row.published for row in sweep.rows):
        notes.append("The paper's accuracies belong to its own settings, whatever else is varied here.")
    return notes


def _facts(sweep: Sweep) -> dict[str, str]:
    facts = {"runs": str(len(sweep.runs)), "students": str(sum(len(run.rows) for run in sweep.runs))}
    for key, values in sweep.values.items():
        facts[key] = ", ".join(map(sweeps.text, values))
    for name in ("hardware", "versions"):
        known = [run.facts[name] for run in sweep.runs if name in run.facts]
        texts = [
            ", ".join(f"{key} {item}" for key, item in one.items()) if isinstance(one, dict) else str(one)
            for one in known
        ]
        if texts:
            facts[name] = "; ".join(dict.fromkeys(texts))
    for run in sweep.runs:
        facts[f"run {run.folder.resolve().name}"] = (
            " ".join(f"{key}={value}" for key, value in run.overrides.items()) or run.name
        )
    return facts


def _common(runs: Sequence[Run]) -> str:
    """The settings that all runs share, as YAML with dotted keys."""
    first = runs[0].settings
    same = {key: first[key] for key in first if all(run.settings.get(key) == first[key] for run in runs)}
    return yaml.safe_dump(same, sort_keys=False, allow_unicode=True) if same else ""
