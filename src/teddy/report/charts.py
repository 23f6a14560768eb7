"""Charts of accuracies, losses, teachers and costs, drawn without a display."""

from __future__ import annotations

import contextlib
import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
import seaborn as sns  # type: ignore[import-untyped]
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from teddy.report.comparison import SETTING, Comparison, is_ipc, is_of_students

INK, GREY = "#222222", "#949494"
COLOURS = [colour for colour in sns.color_palette("colorblind").as_hex() if colour != GREY]
DPI, ACROSS = 160, 2
MEMORY = "synthesis_peak_memory_mb"
STYLE = sns.axes_style("whitegrid") | {
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


@contextlib.contextmanager
def chart(path: Path, width: float, height: float, titles: Sequence[str], **options: Any) -> Iterator[list[Any]]:
    """Open a figure with a panel per title, two side by side (sizes in inches), and write it when the block ends.

    What has a label in any panel has one entry in the legend below the panels.
    """
    across, down = min(ACROSS, len(titles)), -(-len(titles) // ACROSS)
    with rc_context(STYLE):
        figure = Figure(figsize=(width * across, height * down), dpi=DPI)
        axes: list[Any] = list(figure.subplots(down, across, squeeze=False, **options).flat)
        for empty in axes[len(titles) :]:
            empty.remove()
        axes = axes[: len(titles)]
        yield axes
        legend: dict[str, Any] = {}
        for axis, title in zip(axes, titles, strict=True):
            axis.set_title(textwrap.fill(title, int(10 * width)))
            legend |= dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
        if legend := {textwrap.fill(name, int(11 * width * across)): line for name, line in legend.items()}:
            columns = max(1, min(len(legend), int(width * across / (0.7 + 0.08 * max(map(len, legend))))))
            figure.legend(legend.values(), legend.keys(), loc="outside lower left", ncols=columns)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


@contextlib.contextmanager
def panels(
    rows: pd.DataFrame, path: Path, height: float, width: float | None = None, **options: Any
) -> Iterator[list[tuple[Any, pd.DataFrame]]]:
    """Open a chart of some rows with a panel for each ``panel``: its axis and its rows."""
    found = dict(list(rows.groupby("panel", sort=False)))
    with chart(path, width or (6.4 if len(found) == 1 else 5.2), height, list(found), **options) as axes:
        yield list(zip(axes, found.values(), strict=True))


def palette_of(rows: pd.DataFrame) -> dict[str, str]:
    """Give each ``series`` a colour of its own, in order; baselines are grey."""
    first = rows.drop_duplicates("series")
    colours = iter([*COLOURS, *sns.husl_palette(len(first), l=0.35).as_hex()])
    return {row.series: GREY if row.baseline else next(colours) for row in first.itertuples()}


def accuracy_bars(comparison: Comparison, path: Path) -> Path:
    """Bars with the sample standard deviation as whisker, and a dot per seed at its left; a panel per protocol and labels."""
    rows = comparison.rows.copy()
    # Baselines are all grey, so that the legend has one entry for them.
    apart = ["" if row.baseline else comparison.distinction(row) for row in rows.itertuples()]
    rows["series"] = [", ".join(filter(None, names)) for names in zip(rows.title, apart, strict=True)]
    rows["group"] = rows.student + (rows.ipc.map("\nIPC {}".format) if rows.ipc.nunique() > 1 else "")
    colours = palette_of(rows)
    slots = rows.groupby("panel").group.agg(["size", "nunique"]).sum(axis=1)  # bars, and a gap after each group
    inches = 0.8 + 0.5 * slots.max()
    with panels(rows, path, 4, max(4.0, inches), sharey=True) as drawn:
        for axis, some in drawn:
            groups, order = list(dict.fromkeys(some.group)), list(colours)
            ranks = some.group.map(groups.index) * len(order) + some.series.map(order.index)
            # Side by side, with room between two groups: a group has no gap for a series that it lacks.
            places = ranks.rank(method="first") + some.group.map(groups.index)
            for name, line in some.groupby("series", sort=False):
                x = places[line.index]
                bars = axis.bar(x, line["mean"], 1, color=colours[name], edgecolor="white", label=name)
                axis.bar_label(bars, fmt="%.1f", label_type="center", color="white", fontsize=9)
                axis.errorbar(x, line["mean"], line["std"], ls="none", color=INK, capsize=5, lw=1.4)
                dots = line.top1.explode()
                axis.scatter(x[dots.index] - 0.25, dots, 14, color="white", edgecolor=INK, lw=0.7, zorder=3)
            axis.set_xticks(places.groupby(some.group, sort=False).mean(), groups)
            axis.grid(False, axis="x")
            axis.set_ylabel(comparison.axis)
    return path


def class_curves(comparison: Comparison, path: Path) -> Path:
    """Accuracy on the classes so far over their number (Fig. 3e); a panel per protocol, labels, student and further settings."""
    rows = comparison.rows.assign(series=comparison.rows.title)
    rows["panel"] += ", " + rows.student if rows.student.nunique() > 1 else ""
    further = [", ".join(["", *comparison.texts(row, comparison.own_keys)]) for row in rows.itertuples()]
    rows["panel"] += further if rows.panel.nunique() < (rows.panel + further).nunique() else ""
    colours = palette_of(rows)
    with panels(rows, path, 4.2, sharey=True) as drawn:
        for axis, some in drawn:
            series = list(some.sort_values("classes").groupby("series", sort=False))
            apart = 0.008 * (some.classes.max() - some.classes.min())  # so that whiskers do not overlap
            for number, (name, line) in enumerate(series):
                look: Any = dict(color=colours[name], label=name, marker="o", capsize=3)
                shift = apart * (number - (len(series) - 1) / 2)
                axis.errorbar(line.classes + shift, line["mean"], line["std"], **look)
            axis.set_xticks(sorted(some.classes.unique()))
            axis.set(xlabel="classes so far", ylabel=comparison.axis)
    return path


def term_curves(terms: Path, path: Path) -> Path | None:
    """Every named term of an objective over the iterations, a panel each: thin lines are blocks, the thick one their median.

    The CSV file has the columns ``block``, ``iteration`` and one per term; None if there is no term. A positive term with a
    maximum of at least ten times its minimum has a logarithmic axis.
    """
    frame = pd.read_csv(terms, index_col=["block", "iteration"]).dropna(axis=1, how="all")
    if frame.columns.empty:
        return None
    names = frame.columns.str.replace("_", " ").to_list()
    with chart(path, 4.8, 3.4, names) as axes:
        for axis, name, colour in zip(axes, frame, COLOURS * len(names), strict=False):
            term = frame[name].dropna()
            blocks = term.unstack("block")
            axis.plot(blocks, color=colour, lw=0.7, alpha=max(0.15, 1 / blocks.shape[1]))
            axis.plot(blocks.median(axis=1), color=colour, lw=2)
            if term.min() > 0 and term.max() >= 10 * term.min():
                axis.set_yscale("log")
                axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.yaxis.set_minor_locator(NullLocator())
            axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
            axis.set_xlabel("iteration")
    return path


def pool_curve(pool: Sequence[dict[str, Any]], path: Path, axis_name: str) -> Path | None:
    """Accuracy of the teachers: snapshots of one training over its epochs, or pruned models side by side; None without any.

    A teacher has ``epoch``, ``chosen``, and where known ``top1_holdout`` in percent; with the same or a fractional number of
    epochs it is a pruned model. Full markers are members of the pool.
    """
    frame = pd.DataFrame(pool).dropna(axis=1, how="all")
    if "top1_holdout" not in frame:
        return None
    frame = frame.sort_values(["epoch", "top1_holdout"], ignore_index=True)
    pruned = bool(frame.epoch.duplicated().any() or (frame.epoch % 1 != 0).any())
    x = frame.index if pruned else frame.epoch
    with chart(path, max(6.4, 2 + 0.3 * len(frame) * pruned), 3.8, ["The pool's teachers"]) as (axis,):
        look: dict[str, Any] = dict(color=COLOURS[0], label="held-out training images")
        axis.plot(x, frame.top1_holdout, "o", ls="none" if pruned else "-", mfc="white", **look)
        axis.plot(x, frame.top1_holdout.where(frame.chosen.astype(bool)), "o", color=COLOURS[0])
        axis.plot([], [], "o", color=GREY, label="in the pool")
        axis.locator_params(axis="x", integer=True)
        if pruned:
            axis.set_xticks(x, [f"{epoch:.3g}" for epoch in frame.epoch])
        axis.set(xlabel="epochs of fine-tuning" if pruned else "epoch", ylabel=axis_name)
    return path


def efficiency(comparison: Comparison, path: Path) -> Path | None:
    """Accuracy over the time for pool and synthesis, as in Fig. 3d; None unless the time varies with a numeric key.

    A marker's area is the peak memory of synthesis, the number above it the value of the numeric keys.
    """
    keys = [key for key in comparison.values if comparison.numeric(key) and not (is_ipc(key) or is_of_students(key))]
    costs = pd.DataFrame(comparison.rows.cost.to_list()).reindex(columns=["pool_seconds", "synthesis_seconds", MEMORY])
    costs["pool_seconds"] = costs["pool_seconds"].fillna(0.0)  # methods without teachers
    rows = comparison.rows.join(costs).dropna(subset=list(costs))
    rows = rows.assign(time=(rows.pool_seconds + rows.synthesis_seconds) / 60, series=rows.title)
    times = rows.groupby(["method", "ipc"]).time
    if not keys or not (times.max() > 1.05 * times.min()).any():
        return None
    rows["series"] += rows.ipc.map(", IPC {}".format) if rows.ipc.nunique() > 1 else ""
    rows["panel"] += ", " + rows.student if rows.student.nunique() > 1 else ""
    colours = palette_of(rows)
    memory = " to ".join(f"{rows[MEMORY].agg(end) / 1000:.2g}" for end in ("min", "max"))
    marks = textwrap.fill(f"number: {', '.join(keys)}; area: peak memory, {memory} GB", 56)
    with panels(rows, path, 4.4) as drawn:
        for axis, some in drawn:
            for name, line in some.sort_values("time").groupby("series", sort=False):
                axis.plot(line.time, line["mean"], color=colours[name], label=name)
                axis.errorbar(line.time, line["mean"], line["std"], color=INK, ls="none", capsize=4)
            areas = 600 * some[MEMORY] / rows[MEMORY].max()
            axis.scatter(some.time, some["mean"], areas, some.series.map(colours).to_list(), zorder=3)
            for row, area in zip(some.itertuples(), areas, strict=True):
                text = ", ".join(comparison.text(row, key) for key in keys if not comparison.any_of(row, key))
                place: Any = dict(xytext=(0, 2 + math.sqrt(area / math.pi)), textcoords="offset points", zorder=4)
                axis.annotate(text, (row.time, row.mean), ha="center", va="bottom", fontsize=9, color=INK, **place)
            axis.margins(0.15)
            axis.set_xlim(left=0)
            axis.set(xlabel=f"minutes for pool and synthesis\n{marks}", ylabel=comparison.axis)
    return path


def stages(comparison: Comparison, path: Path) -> Path | None:
    """Teachers of several stages, as in Fig. 2c, for the method typed first among those with divergences.

    Left: the divergence from the student to each teacher, dotted, and its mean over a run's teachers as a solid segment.
    Right: the accuracy of the students. None unless the students of at least two pools have a divergence.
    """
    rows = comparison.rows.assign(epochs=comparison.rows.divergence.map(_by_epoch))
    rows = rows[rows.epochs.map(bool)]
    rows = rows[rows.method == comparison.first_method(rows)]
    if rows.epochs.map(tuple).nunique() < 2:
        return None
    rows = rows.assign(centre=rows.epochs.map(lambda epochs: (min(epochs) + max(epochs)) / 2)).sort_values("centre")
    varied = [name for name in SETTING if rows[name].nunique() > 1]
    with chart(path, 5.2, 4.2, ["From student to teachers", "Accuracy"]) as (left, right):
        left.plot([], [], color=GREY, ls=":", marker=".", label="each teacher")
        left.plot([], [], color=GREY, lw=3, label="mean over a run's teachers")
        for (_, some), colour in zip(rows.groupby(SETTING, sort=False), COLOURS * len(rows), strict=False):
            name = ", ".join(f"{'IPC ' * (one == 'ipc')}{some[one].iloc[0]}" for one in varied) or None
            look: Any = dict(color=colour, label=name, marker="o", lw=1, capsize=5)
            right.errorbar(some.centre, some["mean"], some["std"], **look)
            segment: Any = dict(color=colour, lw=3, alpha=0.5, solid_capstyle="butt")
            for row in some.itertuples():
                ends = [min(row.epochs), max(row.epochs)]
                left.plot(list(row.epochs), list(row.epochs.values()), color=colour, ls=":", marker=".")
                left.plot(ends, [sum(row.epochs.values()) / len(row.epochs)] * 2, **segment)
                right.plot(ends, [row.mean] * 2, **segment)
        left.set(xlabel="epoch of the teacher", ylabel="KL divergence (nats)")
        right.set(xlabel="epochs of the teachers", ylabel=comparison.axis)
    return path


def _by_epoch(divergence: dict[str, float]) -> dict[float, float]:
    """Finite divergences by the number in the teacher's name, ascending; the mean where teachers share an epoch."""
    found = [(re.search(r"\d+(?:\.\d+)?", name), value) for name, value in divergence.items() if math.isfinite(value)]
    pairs = pd.DataFrame([(float(match[0]), value) for match, value in found if match], columns=["epoch", "value"])
    return pairs.groupby("epoch").value.mean().to_dict()
