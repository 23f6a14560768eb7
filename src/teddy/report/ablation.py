"""The chart of an ablation: accuracy over a key that varies between runs (Fig. 3a-c)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
from matplotlib.ticker import NullLocator
from matplotlib.transforms import offset_copy

from teddy.report.charts import palette_of, panels
from teddy.report.comparison import SETTING, Comparison, has_column, is_ipc, is_number, is_seed, value_text

PAPER = "#606060"
MARKERS = "osD^vP"
MAX_SERIES = 8
"""Lines of a panel that a reader can still tell apart."""


def keys_to_draw(comparison: Comparison) -> list[str]:
    """Choose the keys that get a chart: the numeric ones if there are any, else all; IPC is the first of them.

    Of keys that always change together it is the first. Seeds, students and protocols only count where nothing else varies, and
    which methods a run has does not count: their names tell the rows apart.
    """
    keys: list[str] = []
    for key in [key for key in comparison.values if key != "method"]:
        same = (_follows(comparison, key, other) and _follows(comparison, other, key) for other in keys)
        keys += [key] * (not any(same))
    for rest in (is_seed, lambda key: has_column(key) and not is_ipc(key)):
        keys = [key for key in keys if not rest(key)] or keys
    keys = [key for key in keys if comparison.numeric(key)] or keys
    return sorted(keys, key=lambda key: not is_ipc(key))


def series_of(comparison: Comparison, key: str) -> pd.DataFrame:
    """Sort the table's rows by method and add ``series`` (method, student, IPC, further settings) for the chart of a key.

    ``settings`` is a list of the same without the method, ``level`` is True for rows that the key does not matter to.
    """
    rows = comparison.rows.copy()
    students = rows.student.nunique() > 1 and key != "evaluation.students"
    others = [other for other in comparison.values if other != key and not _follows(comparison, other, key)]
    apart = comparison.keys_beside_ipc if is_ipc(key) else comparison.own_keys
    others = [other for other in others if is_ipc(other) or other in apart]
    setting = rows.setting.map(lambda one: repr(one[key]))  # IPC may follow from the key
    several = rows.groupby(["method", *SETTING[:4], setting]).ipc.nunique().max() > 1
    ipc = bool(several) and not any(is_ipc(other) for other in (key, *others))
    rows["settings"] = [
        [*[row.student] * students, *[f"IPC {row.ipc}"] * ipc, *comparison.texts(row, others)]
        for row in rows.itertuples()
    ]
    rows["series"] = [", ".join([row.title, *row.settings]) for row in rows.itertuples()]
    rows["level"] = [comparison.any_of(row, key) for row in rows.itertuples()]
    return rows.sort_values("method", key=lambda names: names.map(comparison.methods.index), kind="stable")


def ablation(comparison: Comparison, key: str, path: Path) -> Path | None:
    """Accuracy over the values of one key: mean, sample standard deviation as whisker, the paper's accuracy in grey.

    Numbers have their position on the axis (a logarithmic one where their steps grow much) and are joined by a line; names
    are side by side. Students that the key does not matter to are a dashed level with a band of one standard deviation. Series
    with a single value are left out, where others have several; None where none has: then other keys differ as well. Many
    series are divided into a panel for each setting.
    """
    rows = series_of(comparison, key)
    rows["value"] = [row.setting[key] for row in rows.itertuples()]
    by = "series" if "." in key else "panel"  # a file of a group stands for many settings anyway
    rows = rows.groupby("panel").filter(lambda some: some[~some.level].groupby(by).value.nunique().max() > 1)
    if rows.empty:
        return None
    if by == "series":  # one with a single value shows nothing of the key, and many would leave no room for the others
        rows = rows[rows.level | (rows.groupby(["panel", "series"]).value.transform("nunique") > 1)]
    if rows.series.nunique() > MAX_SERIES:
        rows = _by_settings(rows).groupby("panel").filter(lambda some: not some.level.all())
    colours = palette_of(rows)
    drawn_values = rows[~rows.level].value.explode().tolist()
    values: list[Any] = [value for value in comparison.values[key] if value in drawn_values]
    joined = comparison.numeric(key)
    native = joined and all(map(is_number, values))
    if native:
        values.sort()
    with panels(rows.sort_values("panel", kind="stable"), path, 4.2 + 0.1 * len(colours)) as found:
        for axis, some in found:
            here = list(dict.fromkeys(some[~some.level].series))
            step = min(7, 35 / max(1, len(here)))  # points between series, so that whiskers do not overlap
            one_paper = some[some.paper.notna()].series.nunique() == 1
            for name, line in some.groupby("series", sort=False):
                look: Any = dict(color=colours[name], label=name)
                for row in line[line.level].itertuples():
                    axis.axhline(row.mean, ls="--", lw=1.5, zorder=1.5, **look)
                    if not math.isnan(row.std):
                        axis.axhspan(row.mean - row.std, row.mean + row.std, alpha=0.16, lw=0, color=colours[name])
                points = line[~line.level].explode("value", ignore_index=True)
                if points.empty:
                    continue
                points["x"] = points.value if native else points.value.map(values.index)
                points = points.sort_values("x")
                number = here.index(name)
                look |= dict(ls="-" if joined else "none", marker=MARKERS[number % len(MARKERS)])
                drawn = axis.plot(points.x.astype(float), points["mean"], zorder=3, **look)
                whiskers: Any = dict(fmt="none", capsize=4, color=colours[name])
                drawn += axis.errorbar(points.x, points["mean"], points["std"], **whiskers).get_children()
                shift = step * (number - (len(here) - 1) / 2)
                for part in drawn:
                    part.set_transform(offset_copy(axis.transData, axis.figure, x=shift, units="points"))
                if (paper := points[points.paper.notna()]).size:
                    edge = PAPER if one_paper else colours[name]
                    axis.scatter(paper.x, paper.paper.str[0], 60, color="white", edgecolor=edge)
                    axis.scatter([], [], 60, color="white", edgecolor=PAPER, label="the paper")
            _set_ticks(axis, values, set(some.value.explode()) if native else None)
            axis.set(xlabel=key, ylabel=comparison.axis)
            axis.margins(0.08, 0.14)
    return path


def _by_settings(rows: pd.DataFrame) -> pd.DataFrame:
    """The same rows with a panel for each setting, named by what differs between settings, and the methods as series."""
    shared = set.intersection(*map(set, rows.settings))
    differing = rows.settings.map(lambda texts: "".join(f", {text}" for text in texts if text not in shared))
    return rows.assign(panel=rows.panel + differing, series=rows.title)


def short_names(texts: Sequence[str]) -> list[str]:
    """Names without the parts that all of them begin or end with: ``prior`` and ``post`` for ``x_prior`` and ``x_post``."""
    parts = [text.split("_") for text in texts]
    for _ in range(2):  # from the front, then from the back
        shared = len(list(takewhile(lambda column: len(set(column)) == 1, zip(*parts, strict=False))))
        parts = [some[shared:][::-1] for some in parts]
    return ["_".join(some) for some in parts] if all(parts) else list(texts)


def _follows(comparison: Comparison, key: str, other: str) -> bool:
    """Whether the value of ``other`` determines that of ``key`` in these runs."""
    pairs = {(run.value(other), run.value(key)) for run in comparison.runs}
    return len(pairs) == len({value for value, _ in pairs})


def _set_ticks(axis: Any, values: Sequence[Any], shown: set[Any] | None) -> None:
    """Set the scale for all values and the ticks for those ``shown`` in a panel; None: names, side by side."""
    if shown is None:
        names = short_names([value_text(value) for value in values])
        axis.set_xticks(range(len(names)), names, rotation=25 if len("".join(names)) > 48 else 0)
        axis.set_xlim(-0.6, len(names) - 0.4)
        axis.grid(False, axis="x")
        return
    steps = np.diff(values)
    if geometric := values[0] > 0 and steps.max() > 4 * steps.min():
        axis.set_xscale("log")
    if geometric or steps.min() > np.ptp(values) / 14:
        ticks = [value for value in values if value in shown]
        axis.set_xticks(ticks, [value_text(value) for value in ticks])
        axis.xaxis.set_minor_locator(NullLocator())
