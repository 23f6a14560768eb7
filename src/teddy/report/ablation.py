"""The chart of an ablation: accuracy over a key that varies between runs (Fig. 3a-c)."""

from __future__ import annotations

import functools
import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from teddy.report import sweep as sweeps
from teddy.report.figures import chart, colours_of, legend_below
from teddy.report.sweep import IPC, PROTOCOL, STUDENTS, Row, Sweep, Value
from teddy.report.tables import NAMES, SHORT, place_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, PAPER = "#222222", "#777777"
MARKERS = "osD^vP"
PANEL_WIDTH, PANEL_HEIGHT, ACROSS = 5.2, 3.9, 2
ASIDE = 0.011
"""From a point to the one beside it at the same value, as a part of the axis."""
SAID = {
    "synthesis.teachers_per_block": "teachers per block of images",
    IPC: "images per class",
    "labels.members": "teachers that label",
    "labels.top_k": "logits kept of a label",
    "labels.epochs": "epochs of views that are labelled",
    "labels.temperature": "temperature of the labels",
    "pool.first": "first epoch of the pool",
    "pool.last": "last epoch of the pool",
    "pool.every": "epochs from one teacher to the next",
    "pool.size": "teachers in the pool",
    "synthesis.iterations": "iterations of synthesis",
}
"""What the axis of a key is called; another key is called by its own name."""

Lane = tuple[str, Any]


@dataclass
class Panel:
    """One protocol and kind of labels: lines of rows over a key, and the rows that it does not matter to."""

    lines: dict[Lane, list[Row]] = field(default_factory=dict)
    levels: dict[Lane, Row] = field(default_factory=dict)


def keys_to_draw(sweep: Sweep) -> list[str]:
    """The keys that get a chart of their own: the numeric ones if there are any, else all. Of keys that always change together
    that is the first; seeds, students and protocols, and IPC are only drawn where nothing else varies.
    """
    told: list[str] = []
    for key in sweep.values:
        if not any(_follows(sweep, key, other) and _follows(sweep, other, key) for other in told):
            told.append(key)
    for rest in ((sweeps.SEED,), (STUDENTS, PROTOCOL), (IPC,)):
        told = [key for key in told if key not in rest] or told
    return [key for key in told if sweeps.on_scale(sweep, key)] or told


def ablation(sweep: Sweep, key: str, path: Path) -> Path | None:
    """Accuracy over the values of one key: mean, sample standard deviation as whisker.

    Numbers have their place on the axis and a line; words stand side by side in the order given. Students that the key does
    not matter to are a dashed level with a band of one standard deviation. The paper's accuracies are hollow and grey, or a
    dotted level where the paper has the same one for all values, since it then belongs to a setting of its own.

    Returns:
        ``path``, or None if no protocol and labels have students under several values that depend on the key.
    """
    panels = {title: panel for title, panel in panels_of(sweep, key).items() if len(_values_in(panel, key)) > 1}
    if not panels:
        return None
    values = list(sweep.values[key])
    scale = sweeps.on_scale(sweep, key) and all(map(sweeps.is_number, values))
    if scale:
        values.sort(key=float)  # type: ignore[arg-type]
    lanes = in_order(lane for panel in panels.values() for lane in (*panel.lines, *panel.levels))
    looks = _looks(lanes)
    names = lane_names(sweep, lanes)
    across = min(ACROSS, len(panels))
    size = max(6.4, PANEL_WIDTH * across), PANEL_HEIGHT * -(-len(panels) // across) + 0.22 * (1 + len(lanes) // 2)
    with chart(path, *size, len(panels), across) as axes:
        published: set[str] = set()
        joined = sweeps.on_scale(sweep, key)
        for axis, (title, panel) in zip(axes, panels.items(), strict=True):
            crowd = max(len(_lanes_at(panel, lanes, key, value)) for value in values)
            spot = _scale_axis(axis, values, scale, crowd)
            for lane, row in panel.levels.items():
                _level(axis, row, looks[lane][0])
            for lane in filter(panel.lines.__contains__, lanes):
                placed = [(value, row) for row in panel.lines[lane] for value in row.setting[key]]
                placed.sort(key=lambda point: values.index(point[0]))
                xs = [spot(value, _shift(panel, lanes, lane, key, value)) for value, _ in placed]
                _line(axis, xs, [row for _, row in placed], looks[lane], joined)
                if len(panel.lines) == 1:
                    _write_means(axis, xs, [row for _, row in placed])
                aside = functools.partial(_shift, panel, lanes, None, key)
                published |= _published(axis, spot, placed, looks[lane][1], aside, key)
            axis.set(title=title, xlabel=SAID.get(key, key))
            axis.margins(y=0.14)
        for axis in axes[::across]:
            axis.set_ylabel("top-1 accuracy (%)")
        legend_below(axes[0], _handles(panels.values(), looks, names, joined, published))
    return path


def panels_of(sweep: Sweep, key: str) -> dict[str, Panel]:
    """The chart's panels by title; a lane is a method with its student, IPC and further settings."""
    datasets = len({row.group.dataset for row in sweep.rows}) > 1
    panels: dict[str, Panel] = {}
    others = [other for other in sweep.values if other not in (key, STUDENTS, PROTOCOL)]
    others = [other for other in others if not _follows(sweep, other, key)]
    for row in sweep.rows:
        item = row.group
        panel = panels.setdefault(panel_title(row, datasets), Panel())
        further = tuple((other, sweeps.said(sweep, row, other)) for other in others if not sweep.any_of(row, other))
        ipc = item.ipc if IPC not in (key, *others) else None
        lane = item.method, ("" if key == STUDENTS else item.student, ipc, further)
        if sweep.any_of(row, key):
            panel.levels[lane] = row
        else:
            panel.lines.setdefault(lane, []).append(row)
    return panels


def _values_in(panel: Panel, key: str) -> set[Value]:
    return {value for rows in panel.lines.values() for row in rows for value in row.setting[key]}


def panel_title(row: Row, datasets: bool) -> str:
    """Protocol and labels, after the dataset where there are several."""
    item = row.group
    return f"{item.dataset}: " * datasets + f"{item.protocol.replace('_', ' ')} protocol, {item.labels} labels"


def _follows(sweep: Sweep, key: str, other: str) -> bool:
    """Whether the value of ``other`` settles that of ``key`` in these runs."""
    known: dict[Value, set[Value]] = {}
    for run in sweep.runs:
        value, settled = sweeps.value_of(run, other), sweeps.value_of(run, key)
        known.setdefault(value, set()).add(settled)
    return all(len(some) == 1 for some in known.values())


def in_order(lanes: Any) -> list[Lane]:
    """Each (method, variant) once, in the order of methods."""
    return sorted(dict.fromkeys(lanes), key=lambda lane: place_of(lane[0]))


def _looks(lanes: Sequence[Lane]) -> dict[Lane, tuple[str, str]]:
    """Colour and marker of each lane: the same student, IPC and further settings have the same marker."""
    variants = list(dict.fromkeys(variant for _, variant in lanes))
    colours = colours_of(lanes)
    return {lane: (colours[lane], MARKERS[variants.index(lane[1]) % len(MARKERS)]) for lane in lanes}


def lane_names(sweep: Sweep, lanes: Sequence[Lane]) -> dict[Lane, str]:
    """What each lane is called: the method, and what tells it from the others."""
    students = len({student for _, (student, _, _) in lanes}) > 1
    several_ipc = len({ipc for _, (_, ipc, _) in lanes}) > 1
    alone = len({method for method, _ in lanes}) == len(lanes)
    names = {}
    for lane in lanes:
        method, (student, ipc, further) = lane
        parts = [(NAMES if alone else SHORT).get(method, method)] + [student] * students + [f"IPC {ipc}"] * several_ipc
        parts += [f"{sweeps.short_key(key)} {value}" for key, value in further]
        names[lane] = ", ".join(parts)
    return names


def _scale_axis(axis: Axes, values: Sequence[Value], scale: bool, crowd: int) -> Any:
    """Gives the x-axis ticks at the values, and returns where a value, moved by a part of the axis, lies.

    Args:
        crowd: how many points stand at one value at most; words that stand side by side keep theirs apart.
    """
    from matplotlib.ticker import NullLocator

    texts = [sweeps.text(value) for value in values]
    if not scale:
        ticks = short_names(texts)
        axis.set_xticks(range(len(values)), ticks, rotation=25 if max(map(len, ticks)) * len(ticks) > 48 else 0)
        axis.grid(False, axis="x")
        axis.set_xlim(-0.6, len(values) - 0.4)
        stretch = min(4.0 * len(values), 0.7 / (ASIDE * max(1, crowd - 1)))
        return lambda value, shift=0.0: values.index(value) + shift * stretch
    numbers = [float(value) for value in values]  # type: ignore[arg-type]
    span = max(numbers) - min(numbers)
    if (
        min(numbers) > 0
        and max(numbers) / min(numbers) >= 8
        and _evenness(list(map(math.log, numbers))) < _evenness(numbers)
    ):
        axis.set_xscale("log")
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xticks(numbers, texts)
        return lambda value, shift=0.0: float(value) * (max(numbers) / min(numbers)) ** shift
    if min(right - left for left, right in itertools.pairwise(numbers)) > span / 14:
        axis.set_xticks(numbers, texts)
    return lambda value, shift=0.0: float(value) + shift * span


def _evenness(numbers: Sequence[float]) -> float:
    """How uneven the steps between ascending numbers are; 0 if all are the same."""
    steps = [right - left for left, right in itertools.pairwise(numbers)]
    return statistics.pstdev(steps) / statistics.fmean(steps)


def _shift(panel: Panel, lanes: Sequence[Lane], lane: Lane | None, key: str, value: Value) -> float:
    """How far a point moves aside, as a part of the axis, so that points at one value do not cover each other; a further
    place at the right is the paper's (None).
    """
    there = _lanes_at(panel, lanes, key, value)
    place = len(there) - 0.3 if lane is None else there.index(lane)
    return ASIDE * (place - (len(there) - 1) / 2)


def _lanes_at(panel: Panel, lanes: Sequence[Lane], key: str, value: Value) -> list[Lane]:
    return [one for one in lanes if any(value in row.setting[key] for row in panel.lines.get(one, ()))]


def short_names(texts: Sequence[str]) -> list[str]:
    """Names without the words that all of them begin or end with: ``prior`` and ``post`` for ``x_prior`` and ``x_post``."""
    words = [text.split("_") for text in texts]
    fewest = min(map(len, words))
    head = next((n for n in range(fewest) if len({tuple(some[: n + 1]) for some in words}) > 1), fewest)
    rest = [some[head:] for some in words]
    fewest = min(map(len, rest))
    tail = next((n for n in range(fewest) if len({tuple(some[-n - 1 :]) for some in rest}) > 1), fewest)
    short = ["_".join(some[: len(some) - tail]) for some in rest]
    return short if all(short) else list(texts)


def _line(axis: Axes, xs: Sequence[float], rows: Sequence[Row], look: tuple[str, str], joined: bool) -> None:
    means, errors = [row.group.mean for row in rows], [row.group.std or 0.0 for row in rows]
    if joined:
        axis.plot(xs, means, color=look[0], lw=1.6)
    points(axis, xs, means, errors, *look)


def points(
    axis: Axes, xs: Sequence[float], means: Sequence[float], errors: Sequence[float], colour: str, marker: str
) -> None:
    """Markers with whiskers whose caps are wider than the markers, so that a small spread is seen as well."""
    axis.errorbar(xs, means, errors, ls="none", color=colour, lw=1.5, capsize=5, capthick=1.5)
    axis.plot(xs, means, marker, color=colour, ms=6, mec="white", mew=0.6, zorder=3)


def _write_means(axis: Axes, xs: Sequence[float], rows: Sequence[Row]) -> None:
    from matplotlib.patheffects import withStroke

    for x, row in zip(xs, rows, strict=True):
        place = x, row.group.mean + (row.group.std or 0)
        note = axis.annotate(
            f"{row.group.mean:.1f}", place, (0, 5), textcoords="offset points", ha="center", fontsize=9
        )
        note.set(color=INK, path_effects=[withStroke(linewidth=2.5, foreground="white")])


def _level(axis: Axes, row: Row, colour: str) -> None:
    mean, std = row.group.mean, row.group.std or 0.0
    axis.axhspan(mean - std, mean + std, color=colour, alpha=0.16, lw=0)
    axis.axhline(mean, color=colour, ls="--", lw=1.5)


def _published(
    axis: Axes, spot: Any, placed: Sequence[tuple[Value, Row]], marker: str, shift: Callable[[Value], float], key: str
) -> set[str]:
    """Draws the paper's accuracies beside a line, and says how: ``level``, ``marker`` or not at all."""
    known = [(value, row.published) for value, row in placed if row.published is not None]
    if key != IPC and len(placed) > 1 and len({found for _, found in known}) == 1:
        axis.axhline(known[0][1][0], color=PAPER, ls=":", lw=1.4)
        return {"level"}
    for value, (mean, std) in known:
        look: dict[str, Any] = dict(color=PAPER, mfc="white", ms=7, capsize=4, lw=1.2)
        axis.errorbar(spot(value, shift(value)), mean, std or 0.0, marker=marker, zorder=1.9, **look)
    return {"marker"} if known else set()


def _handles(
    panels: Iterable[Panel],
    looks: Mapping[Lane, tuple[str, str]],
    names: Mapping[Lane, str],
    joined: bool,
    published: set[str],
) -> list[Any]:
    from matplotlib.lines import Line2D

    lines = {lane for panel in panels for lane in panel.lines}
    handles = []
    for lane, (colour, marker) in looks.items():
        look: dict[str, Any] = dict(marker=marker, ls="-" if joined else "none") if lane in lines else dict(ls="--")
        handles.append(Line2D([], [], color=colour, label=names[lane], ms=6, mec="white", **look))
    if published:
        look = dict(marker="o" if "marker" in published else "none", ls=":" if "level" in published else "none")
        handles.append(Line2D([], [], color=PAPER, mfc="white", label="the paper", **look))
    return handles
