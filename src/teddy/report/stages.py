"""The chart of the teachers' stages: how far the student is from them, and what they led to (Fig. 2c)."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from teddy.report.ablation import MARKERS, PANEL_HEIGHT, PANEL_WIDTH, points
from teddy.report.figures import BLUE, GREY, OTHERS, chart, legend_below
from teddy.report.sweep import Row, Sweep
from teddy.report.tables import place_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def stages(sweep: Sweep, path: Path) -> Path | None:
    """Teachers of several stages, as in Fig. 2c. Left: the divergence from the student to each teacher, dotted, and its mean
    over a run's teachers as a solid segment. Right: the accuracy that these teachers led to.

    Returns:
        ``path``, or None unless students of at least two pools know their divergence.
    """
    methods = {row.group.method for row in sweep.rows if _by_epoch(row)}
    if not methods:
        return None
    method = min(methods, key=place_of)
    rows = [row for row in sweep.rows if row.group.method == method and _by_epoch(row)]
    if len({tuple(_by_epoch(row)) for row in rows}) < 2:
        return None
    lanes: dict[tuple, list[Row]] = {}
    for row in rows:
        item = row.group
        lanes.setdefault((item.dataset, item.ipc, item.student, item.protocol, item.labels), []).append(row)
    told = [place for place in range(5) if len({lane[place] for lane in lanes}) > 1]
    with chart(path, 2 * PANEL_WIDTH, PANEL_HEIGHT + 0.24 * (len(lanes) > 1), 2) as (left, right):
        from matplotlib.lines import Line2D

        handles = []
        for number, (lane, some) in enumerate(lanes.items()):
            colour, marker = (BLUE, *OTHERS)[number % (1 + len(OTHERS))], MARKERS[number % len(MARKERS)]
            words = [f"IPC {lane[place]}" if place == 1 else str(lane[place]).replace("_", " ") for place in told]
            handles.append(Line2D([], [], color=colour, marker=marker, mec="white", label=", ".join(words)))
            _stage_lane(left, right, sorted(some, key=lambda row: min(_by_epoch(row))), colour, marker)
        left.set(title="From student to teachers", xlabel="epoch of the teacher", ylabel="KL divergence (nats)")
        right.set(title="Accuracy", xlabel="epochs of the teachers", ylabel="top-1 accuracy (%)")
        for axis in (left, right):
            axis.margins(y=0.14)
        left.plot([], [], color=GREY, ls=":", marker=".", label="each teacher")
        left.plot([], [], color=GREY, lw=3, label="mean over the teachers of a run")
        left.legend(fontsize=9)
        if told:
            legend_below(left, handles)
    return path


def _stage_lane(left: Axes, right: Axes, rows: Sequence[Row], colour: str, marker: str) -> None:
    centres, means = [], []
    for row in rows:
        known = _by_epoch(row)
        first, last = min(known), max(known)
        left.plot(list(known), list(known.values()), color=colour, ls=":", marker=".", ms=5, lw=1.2)
        mean = statistics.fmean(known.values())
        left.plot([first, last], [mean, mean], color=colour, lw=3, alpha=0.6, solid_capstyle="butt")
        centre = (first + last) / 2
        centres.append(centre)
        means.append(row.group.mean)
        right.plot([first, last], [row.group.mean] * 2, color=colour, lw=3, alpha=0.3, solid_capstyle="butt")
        points(right, [centre], [row.group.mean], [row.group.std or 0.0], colour, marker)
    right.plot(centres, means, color=colour, lw=1, alpha=0.5)


def _by_epoch(row: Row) -> dict[float, float]:
    """Divergence by the teacher's epoch, in its order; the mean where teachers share an epoch."""
    found: dict[float, list[float]] = {}
    for name, value in row.group.divergence.items():
        number = re.search(r"\d+(?:\.\d+)?", name)
        if number and math.isfinite(value):
            found.setdefault(float(number[0]), []).append(value)
    return {epoch: statistics.fmean(found[epoch]) for epoch in sorted(found)}
