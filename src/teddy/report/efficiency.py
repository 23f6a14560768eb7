"""The chart of what it costs: accuracy over the time for pool and synthesis (Fig. 3d)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from teddy.report.ablation import ACROSS, INK, PANEL_HEIGHT, PANEL_WIDTH, in_order, panel_title
from teddy.report.figures import chart, colours_of
from teddy.report.sweep import Row, Sweep, Value
from teddy.report.tables import NAMES, OURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEACHERS = "synthesis.teachers_per_block"
COSTS = ("pool_seconds", "synthesis_seconds", "synthesis_peak_memory_mb")
_TIMES = (("hours", 3600.0, 3 * 3600.0), ("minutes", 60.0, 180.0), ("seconds", 1.0, 0.0))


def efficiency(sweep: Sweep, path: Path) -> Path | None:
    """Accuracy over the time for pool and synthesis, as in Fig. 3d; a marker's area is the peak memory of synthesis.

    Returns:
        ``path``, or None if the costs are not known or the number of teachers per block is the same everywhere.
    """
    rows = [row for row in sweep.rows if all(name in row.group.cost for name in COSTS)]
    if len({_teachers(row) for row in rows if row.group.method == OURS}) < 2:
        return None
    datasets = len({row.group.dataset for row in rows}) > 1
    students = len({row.group.student for row in rows}) > 1
    panels: dict[str, list[Row]] = {}
    for row in rows:
        panels.setdefault(panel_title(row, datasets) + f", {row.group.student}" * students, []).append(row)
    lanes = in_order((row.group.method, row.group.ipc) for row in rows)
    colours, unit = colours_of(lanes), max(map(_seconds, rows))
    name, scale = next((name, scale) for name, scale, least in _TIMES if unit >= least)
    most = max(row.group.cost[COSTS[2]] for row in rows)
    across = min(ACROSS, len(panels))
    size = max(6.4, PANEL_WIDTH * across), PANEL_HEIGHT * -(-len(panels) // across)
    with chart(path, *size, len(panels), across) as axes:
        for axis, (title, some) in zip(axes, panels.items(), strict=True):
            axis.set(title=title, xlabel=f"{name} for pool and synthesis")
            for lane in lanes:
                line = sorted((row for row in some if (row.group.method, row.group.ipc) == lane), key=_seconds)
                xs, ys = [_seconds(row) / scale for row in line], [row.group.mean for row in line]
                areas = [700 * row.group.cost[COSTS[2]] / most for row in line]
                errors = [row.group.std or 0.0 for row in line]
                axis.plot(xs, ys, color=colours[lane], lw=1.2, alpha=0.5)
                axis.scatter(xs, ys, areas, color=colours[lane], alpha=0.75, lw=0)
                axis.errorbar(xs, ys, errors, color=INK, ls="none", capsize=3, lw=1.2)
            axis.margins(0.22)
            axis.set_xlim(left=0)
            _label(axis, [(_seconds(row) / scale, row) for row in sorted(some, key=_seconds)])
        for axis in axes[::across]:
            axis.set_ylabel("top-1 accuracy (%)")
    return path


def _seconds(row: Row) -> float:
    return row.group.cost[COSTS[0]] + row.group.cost[COSTS[1]]


def _teachers(row: Row) -> Value:
    method = row.group.method
    own = row.run.settings.get(f"baselines.{method}.teachers_per_block")
    return row.run.settings.get(TEACHERS) if own is None else own


def _cost_label(row: Row) -> str:
    count = _teachers(row) if row.group.method == OURS else None
    name = NAMES.get(row.group.method, row.group.method) if count is None else f"{count} teacher{'s' * (count != 1)}"
    return f"{name}\n{row.group.cost[COSTS[2]] / 1000:.2g} GB"


def _label(axis: Axes, points: Sequence[tuple[float, Row]]) -> None:
    """Writes beside each point what it is, where this covers neither a point, nor its whisker, nor another text."""
    from matplotlib.patheffects import withStroke

    figure: Any = axis.figure
    figure.draw_without_rendering()  # the layout, so that places in pixels are known
    dot, pixels = figure.dpi / 72, axis.transData.transform
    spots, taken = [], []
    for place, row in points:
        std = row.group.std or 0.0
        (x, low), (_, high) = pixels((place, row.group.mean - std)), pixels((place, row.group.mean + std))
        y = (low + high) / 2
        spots.append((x, y, max(high - y, 12 * dot)))
        taken += [(x - 12 * dot, y - 12 * dot, x + 12 * dot, y + 12 * dot), (x - 3 * dot, low, x + 3 * dot, high)]
    frame = axis.get_window_extent()
    for (x, y, reach), (place, row) in zip(spots, points, strict=True):
        text = _cost_label(row)
        width, height = 5.6 * dot * max(map(len, text.split("\n"))), 23 * dot
        tried: list[tuple] = []
        for right, up in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 0.6), (-1, 0.6), (1, -0.6), (-1, -0.6)):
            aside = right * (width / 2 + 14 * dot)
            high = up * (reach + height / 2 + 3 * dot) if not right else up * height
            box = (x + aside - width / 2, y + high - height / 2, x + aside + width / 2, y + high + height / 2)
            outside = box[0] < frame.x0 or box[2] > frame.x1 or box[1] < frame.y0 or box[3] > frame.y1
            covered = sum(_overlap(box, other) for other in taken)
            tried.append((covered + 1e9 * outside, len(tried), (aside / dot, high / dot), box))
        _, _, offset, box = min(tried)
        taken.append(box)
        how: dict[str, Any] = dict(textcoords="offset points", ha="center", va="center", fontsize=9, color=INK)
        if offset[0]:  # beside its point, where another may be nearer
            how["arrowprops"] = dict(arrowstyle="-", color=INK, lw=0.7, shrinkA=0, shrinkB=0)
        note = axis.annotate(text, (place, row.group.mean), offset, **how)
        note.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    width, height = (min(one[n + 2], other[n + 2]) - max(one[n], other[n]) for n in (0, 1))
    return width * height if width > 0 and height > 0 else 0.0
