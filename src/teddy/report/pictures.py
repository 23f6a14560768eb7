"""All pictures of a report, each with its heading and caption."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from teddy.data.distilled import ANNOTATIONS
from teddy.report import grids
from teddy.report.ablation import ablation, keys_to_draw, short_names
from teddy.report.charts import accuracy_bars, class_curves, efficiency, pool_curve, stages, term_curves
from teddy.report.comparison import Comparison, is_number, is_of_students, matters, short_key, value_text
from teddy.report.runs import Run

MAX_SETS = 12
"""Rows of a class in the grid of all methods that a reader can still compare."""
SPREAD = "Mean over seeds; whisker: sample standard deviation; "


@dataclass(frozen=True)
class Picture:
    """A PNG file of the report; ``path`` is None where there was nothing to draw."""

    path: Path | None
    heading: str
    caption: str


def plain(name: str) -> str:
    """Replace what is unsafe in a file's name; a run folder may be a stranger's."""
    return re.sub(r"[^\w-]", "_", name)


def draw_pictures(comparison: Comparison, folder: Path) -> list[Picture]:
    """Draw what the runs allow into a folder; one run alone also shows its images, curves and pool."""
    pictures = [*_charts(comparison, folder)]
    if len(comparison.runs) == 1:
        pictures += _one_run(comparison.runs[0], folder, comparison.axis)
    pictures += _methods(comparison, folder)
    return [picture for picture in pictures if picture.path]


def _charts(comparison: Comparison, folder: Path) -> Iterator[Picture]:
    caption = f"{SPREAD}dashed, with its standard deviation as a band: students that the key does not matter to."
    by_classes = comparison.rows.classes.nunique() > 1
    names = {key: f"ablation_{plain(key)}.png" for key in keys_to_draw(comparison) if not by_classes}
    charts = [(key, path) for key, name in names.items() if (path := ablation(comparison, key, folder / name))]
    yield from (Picture(path, f"Accuracy over {key}", caption) for key, path in charts)
    if by_classes:
        path = class_curves(comparison, folder / "classes.png")
        yield Picture(path, "Accuracy on the classes so far", f"{SPREAD}over orders of the classes as well.")
    elif not charts:
        path = accuracy_bars(comparison, folder / "accuracy.png")
        yield Picture(path, "Accuracy on real images", f"{SPREAD}dots: single students.")
    caption = "Left: KL divergence from student to teacher on held-out real images; right: accuracy of the students."
    yield Picture(stages(comparison, folder / "stages.png"), "Teachers of several stages", caption)
    caption = "Training of the teachers and synthesis; a marker's area is the peak memory of synthesis."
    yield Picture(efficiency(comparison, folder / "efficiency.png"), "Time and memory", caption)


def _one_run(run: Run, folder: Path, axis: str) -> Iterator[Picture]:
    for name, entry in run.methods.items():
        title, method = entry["title"], plain(name)
        if source := run.path(name, "images"):
            caption = f"Images as exported; a row is a class, at most {grids.MAX_CLASSES} classes with ten images each."
            if (source / ANNOTATIONS).is_file():
                caption = "Images as exported, at most ten, with the boxes of their objects; a colour is a class."
            yield Picture(grids.image_grid(source, run, folder / f"images_{method}.png"), f"Images: {title}", caption)
        if source := run.path(name, "snapshots"):
            path = grids.iteration_grid(source, run, folder / f"iterations_{method}.png")
            caption = "The same images from their start to the last iteration."
            yield Picture(path, f"Over the iterations: {title}", caption)
        if source := run.path(name, "terms"):
            path = term_curves(source, folder / f"terms_{method}.png")
            caption = "The terms of the objective: thin lines are blocks, the thick line is their median."
            yield Picture(path, f"Synthesis: {title}", caption)
        if (source := run.folder / f"probe_{name}.csv").is_file():
            path, caption = term_curves(source, folder / f"probe_{method}.png"), "A small student, on held-out images."
            yield Picture(path, f"Student probe: {title}", caption)
    path = pool_curve(run.record.get("pool", []), folder / "pool.png", axis)
    yield Picture(path, "The pool", "Accuracy of each teacher; full markers are in the pool.")


def _methods(comparison: Comparison, folder: Path) -> Iterator[Picture]:
    found = image_sets(comparison)
    for dataset, sets in found.items():
        suffix = dataset if len(found) > 1 else ""
        sets = sets_to_draw(sets)
        folders = {name: path for name, (method, run) in sets.items() if (path := run.path(method, "images"))}
        if len(folders) > 1:
            file = folder / f"methods{'_' * bool(suffix)}{plain(suffix)}.png"
            path = grids.method_grid(folders, next(iter(sets.values()))[1], file)
            caption = "A few classes, drawn by a fixed seed; the images of each method in rows, of many sets the first of each."
            yield Picture(path, f"The methods side by side {suffix}".strip(), caption)


def sets_to_draw(sets: dict[str, tuple[str, Run]]) -> dict[str, tuple[str, Run]]:
    """Choose all sets of :func:`image_sets`, or the first of each method where they are more than twelve."""
    first: dict[str, str] = {}
    for name, (method, _) in sets.items():
        first.setdefault(method, name)
    return {name: sets[name] for name in first.values()} if len(sets) > MAX_SETS else sets


def image_sets(comparison: Comparison) -> dict[str, dict[str, tuple[str, Run]]]:
    """Find the method and run of every image folder that exists, by dataset and name, in the order of methods.

    The name is the method's title and, of several sets of a method, what was varied.
    """
    found: dict[str, dict[Path, tuple[str, Run]]] = {}
    for method in comparison.methods:
        for run in comparison.runs:
            if path := run.path(method, "images"):
                found.setdefault(run.results[0].dataset, {}).setdefault(path.resolve(), (method, run))
    named: dict[str, dict[str, tuple[str, Run]]] = {}
    for dataset, sets in found.items():
        names = named.setdefault(dataset, {})
        for method, run in sets.values():
            others = [one for other, one in sets.values() if other == method]
            name = ", ".join([run.methods[method]["title"], *islice(_varied(comparison, run, method, others), 3)])
            names[f"{name} ({run.folder.resolve().name})" if name in names else name] = method, run
    return named


def _varied(comparison: Comparison, run: Run, method: str, others: list[Run]) -> Iterator[str]:
    for key, values in comparison.values.items():
        value = run.value(key)
        of_images = key != "method" and not is_of_students(key) and matters(key, method)
        if of_images and value is not None and len({other.value(key) for other in others}) > 1:
            text = short_names([value_text(one) for one in values])[values.index(value)]
            yield f"{short_key(key)} {text}" if is_number(value) else text
