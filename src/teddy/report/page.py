"""The report of one run: results.md, results.tex and results.csv, the pictures beside them, and all of it in one
index.html.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from teddy.artifacts.store import atomic_write
from teddy.report import figures, formats, sheets, tables, webpage
from teddy.report.ledger import Result

METHODS_CAPTION = "A few classes, the images of each method in rows; the classes were drawn by a fixed seed."


@dataclass(frozen=True)
class Picture:
    """A picture of the report: its file, its heading and what one sees."""

    path: Path
    heading: str
    caption: str


def write_report(
    folder: Path,
    rows: Sequence[Result],
    *,
    title: str,
    command: str,
    config_yaml: str,
    pool_members: Sequence[Mapping[str, Any]] = (),
    images: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
    class_names: Sequence[str] = (),
    curves: Path | Sequence[Path] = (),
    paper: tables.Published | None = None,
    facts: Mapping[str, Any] | None = None,
    snapshots: Sequence[tuple[int, np.ndarray]] = (),
    snapshot_names: Sequence[str] = (),
) -> Path:
    """Writes the report into ``folder``.

    Args:
        rows: the students of this run, baselines included.
        command: the command line that repeats the run.
        pool_members: as in :func:`teddy.report.figures.pool_curve`.
        images: by method, (uint8 (N, C, H, W), class indices (N,)).
        curves: curve files of the synthesis stage; those that do not exist are passed over.
        paper: published accuracies, ``[mean, std]`` or ``[mean]`` by ``method/student/protocol/ipcN``.
        facts: what ran, in the order to be shown. A mapping ``{stage: seconds}`` under ``seconds`` is shown
            as durations; other mappings (``fingerprints``) and values as they are; e.g. ``hardware``,
            ``label_storage_mb``.
        snapshots, snapshot_names: as in :func:`teddy.report.sheets.iteration_sheet`.

    Returns:
        The path of ``index.html``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups, paper = tables.group(rows), paper or {}
    pictures = _draw(folder / "figures", groups, pool_members, images or {}, class_names, curves)
    if snapshots:
        path = folder / "figures" / "iterations.png"
        sheets.iteration_sheet(snapshots, path, snapshot_names)
        pictures.append(Picture(path, "Over the iterations", "The same images from their start to the last iteration."))
    atomic_write(folder / "results.csv", formats.students_csv([({}, row) for row in rows]))
    atomic_write(folder / "results.tex", tables.latex(groups, paper, title))
    return write_pages(
        folder,
        title=title,
        table=tables.cells(groups, paper),
        notes=notes_on(groups),
        sentences=tables.sentences(groups),
        pictures=pictures,
        facts=_what_ran(rows, facts or {}),
        command=command,
        config_yaml=config_yaml,
    )


def write_pages(
    folder: Path,
    *,
    title: str,
    table: tuple[Sequence[str], formats.Lines],
    notes: Sequence[str],
    sentences: Sequence[str],
    pictures: Sequence[Picture],
    facts: Mapping[str, str],
    command: str,
    config_yaml: str,
) -> Path:
    """Writes results.md and index.html, which say the same; the pictures lie in ``folder`` already.

    Returns:
        The path of ``index.html``.
    """
    lines = [f"# {title}", "", formats.markdown(*table)]
    lines += [line for note in notes for line in (f"*{note}*", "")]
    lines += [*(f"- {sentence}" for sentence in sentences), "", "## What ran", "", "```sh", command, "```", ""]
    lines += [f"- {name}: {text}" for name, text in facts.items()]
    lines += [
        "- every student: [results.csv](results.csv)",
        "- the table for LaTeX: [results.tex](results.tex)",
        "- all on one page: [index.html](index.html)",
        "",
    ]
    for picture in pictures:
        place = picture.path.relative_to(folder).as_posix()
        lines += [f"## {picture.heading}", "", f"![{picture.heading}]({place})", "", picture.caption, ""]
    atomic_write(folder / "results.md", "\n".join(lines))
    page = webpage.render(
        title=title,
        table=table,
        notes=notes,
        sentences=sentences,
        pictures=[(picture.heading, picture.caption, picture.path) for picture in pictures],
        facts=facts,
        command=command,
        config_yaml=config_yaml,
    )
    return atomic_write(folder / "index.html", page)


def _draw(
    folder: Path,
    groups: Sequence[tables.Group],
    pool_members: Sequence[Mapping[str, Any]],
    images: Mapping[str, tuple[np.ndarray, np.ndarray]],
    class_names: Sequence[str],
    curves: Path | Sequence[Path],
) -> list[Picture]:
    pictures = []
    if path := figures.accuracy_bars(groups, folder / "accuracy.png"):
        caption = "Mean over seeds; whisker: sample standard deviation; dots: the single students."
        pictures.append(Picture(path, "Accuracy on the real test images", caption))
    for method, (pixels, labels) in images.items():
        path = folder / f"images_{method}.png"
        sheets.image_sheet(pixels, labels, class_names, path)
        classes = len(np.unique(labels))
        some = f" {sheets.MAX_CLASSES} of {classes} classes." if classes > sheets.MAX_CLASSES else ""
        caption = f"{len(pixels):,} images as exported; a row is a class, at most ten images of each.{some}"
        pictures.append(Picture(path, f"Images: {tables.NAMES.get(method, method)}", caption))
    if len(images) > 1 and (path := _method_sheet(images, class_names, folder / "methods.png")):
        pictures.append(Picture(path, "The methods side by side", METHODS_CAPTION))
    sources = [curves] if isinstance(curves, Path) else list(curves)
    if path := figures.curves([source for source in sources if source.is_file()], folder / "curves.png"):
        pictures.append(Picture(path, "Synthesis", "Both terms of the objective (Eq. 7) over the iterations."))
    if path := figures.pool_curve(pool_members, folder / "pool.png"):
        pictures.append(Picture(path, "The pool", "How well each teacher classifies; full dots are in the pool."))
    return pictures


def _method_sheet(
    images: Mapping[str, tuple[np.ndarray, np.ndarray]], class_names: Sequence[str], path: Path
) -> Path | None:
    common = sorted(set.intersection(*(set(labels.tolist()) for _, labels in images.values())))
    if not common:
        return None
    chosen = sheets.classes_to_compare(common, len(images))
    shown = {
        tables.SHORT.get(method, method): {label: list(pixels[labels == label]) for label in chosen}
        for method, (pixels, labels) in sorted(images.items(), key=lambda item: tables.place_of(item[0]))
    }
    sheets.method_sheet(shown, class_names, path)
    return path


def notes_on(groups: Sequence[tables.Group]) -> list[str]:
    """What has to be known to read the table."""
    notes = []
    if groups:
        notes.append("Top-1 on the real test set after the last epoch: mean ± sample standard deviation over seeds.")
    if any(item.repeats for item in groups):
        notes.append("Some rows hold a seed more than once, from settings that the columns do not tell apart.")
    if groups and min(len(item.top1) for item in groups) < tables.ENOUGH_SEEDS:
        notes.append(f"Some rows have fewer than {tables.ENOUGH_SEEDS} seeds.")
    return notes


def _what_ran(rows: Sequence[Result], facts: Mapping[str, Any]) -> dict[str, str]:
    from teddy.runtime.progress import duration  # imports torch, which a report on several runs does without

    shown = {}
    for name, value in facts.items():
        if name == "seconds":
            shown["time per stage"] = ", ".join(f"{stage} {duration(spent)}" for stage, spent in value.items())
        elif name == "label_storage_mb":
            shown["label storage"] = f"{value:.1f} MB"
        elif isinstance(value, Mapping):
            shown[name.replace("_", " ")] = ", ".join(f"{key} {item}" for key, item in value.items())
        else:
            shown[name.replace("_", " ")] = str(value)
    if rows:
        shown["students"] = f"{len(rows)} trained in {duration(sum(row.seconds for row in rows))} altogether"
    if peak := max((row.peak_memory_mb for row in rows), default=0):
        shown["peak memory of a student"] = f"{peak:,.0f} MB"
    return shown
