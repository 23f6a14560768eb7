"""The report's charts, drawn without a display.

The colours are Okabe and Ito's, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from teddy.report.tables import BASELINE, OURS, Group, several_pools
from teddy.runtime import metrics
from teddy.runtime.curves import read_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8C8C8C"
OTHERS = (ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9")
DPI = 160

STYLE: Any = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


@contextlib.contextmanager
def _chart(path: Path, width: float, height: float, panels: int = 1, **options: Any) -> Iterator[list[Axes]]:
    """Opens a figure with panels side by side, in inches, and writes it to ``path`` when the block ends."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=DPI)
        axes = figure.subplots(1, panels, squeeze=False, **options)[0]
        yield list(axes)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def curves(csv_paths: Path | Sequence[Path], path: Path) -> Path | None:
    """Both terms of Eq. 7 over the iterations of synthesis, on log axes: thin lines are blocks, the thick one
    their median.

    Args:
        csv_paths: curve files of the synthesis stage (several where several processes each wrote their own).

    Returns:
        ``path``, or None if the files hold no synthesis loss.
    """
    sources = [csv_paths] if isinstance(csv_paths, Path) else list(csv_paths)
    panels = [
        (metrics.SYNTHESIS_LOSS_CE, "cross-entropy"),
        (metrics.SYNTHESIS_LOSS_BN, "BatchNorm statistics"),
    ]
    files = [read_curve(source) for source in sources]
    blocks = {name: [line for rows in files for line in _block_lines(rows, name)] for name, _ in panels}
    panels = [(name, title) for name, title in panels if blocks[name]]
    if not panels:
        return None
    with _chart(path, 4.8 * len(panels), 3.4, len(panels)) as axes:
        for axis, (name, title), colour in zip(axes, panels, (BLUE, ORANGE), strict=False):
            _plot_blocks(axis, blocks[name], colour)
            axis.set(title=title, xlabel="iteration")
        axes[0].set_ylabel("loss")
    return path


def _plot_blocks(axis: Axes, lines: Sequence[tuple[np.ndarray, np.ndarray]], colour: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    alone = len(lines) == 1
    for xs, ys in lines:
        axis.plot(xs, ys, color=colour, lw=1.6 if alone else 0.7, alpha=1 if alone else max(0.15, 1 / len(lines)))
    if not alone:
        xs = np.unique(np.concatenate([line[0] for line in lines]))
        together = np.stack([np.interp(xs, *line, left=np.nan, right=np.nan) for line in lines])
        xs, together = xs[~np.isnan(together).all(axis=0)], together[:, ~np.isnan(together).all(axis=0)]
        axis.plot(xs, np.nanmedian(together, axis=0), color=colour, lw=2, label=f"median of {len(lines)} blocks")
        axis.legend()
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,)))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _block_lines(rows: Sequence[Mapping[str, str]], name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """One (iterations, positive values) pair per block of a curve file; the whole file is one block if it
    names none.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.get(name):
            x = row.get(metrics.SYNTHESIS_ITERATION) or row["step"]
            points.setdefault(row.get(metrics.SYNTHESIS_BLOCK) or "", []).append((float(x), float(row[name])))
    lines = [np.asarray(sorted(block)) for block in points.values()]
    # A log axis has no place for zero, which cross-entropy may reach in fp32.
    return [(line[:, 0], np.where(line[:, 1] > 0, line[:, 1], np.nan)) for line in lines]


def pool_curve(members: Sequence[Mapping[str, Any]], path: Path) -> Path | None:
    """Accuracy of the base model's snapshots over the epochs, the pool's members marked.

    Args:
        members: one mapping per snapshot with ``epoch``, ``chosen`` (bool) and, in percent where known,
            ``top1_holdout`` and ``top1_test``. Where epochs repeat (pruned copies), the snapshots are
            numbered instead.

    Returns:
        ``path``, or None without any accuracy.
    """
    series = [("top1_holdout", "held-out training images", BLUE), ("top1_test", "test images", ORANGE)]
    series = [entry for entry in series if any(member.get(entry[0]) is not None for member in members)]
    if not series:
        return None
    epochs = [member["epoch"] for member in members]
    numbered = len(set(epochs)) < len(epochs)
    xs = np.arange(1, len(members) + 1) if numbered else np.asarray(epochs)
    order = np.argsort(xs)
    chosen = np.asarray([bool(member.get("chosen")) for member in members])
    with _chart(path, 6.4, 3.6) as (axis,):
        for key, name, colour in series:
            ys = np.asarray([np.nan if member.get(key) is None else member[key] for member in members], float)
            line, marker = ("none", "o") if numbered else ("-", "none")
            look: dict[str, Any] = dict(ls=line, marker=marker, ms=7, mfc="white", lw=1.5)
            axis.plot(xs[order], ys[order], color=colour, label=name, **look)
            axis.plot(xs[chosen], ys[chosen], "o", color=colour, ms=7, mec="white", mew=0.8)
        axis.plot([], [], "o", color=GREY, ms=7, mec="white", label="in the pool")
        axis.set(xlabel="member" if numbered else "epoch", ylabel="top-1 accuracy (%)", title="The pool's teachers")
        axis.locator_params(axis="x", integer=True)
        axis.margins(y=0.12)
        axis.legend(loc="best")
    return path


def accuracy_bars(groups: Sequence[Group], path: Path) -> Path | None:
    """The table as bars from zero: mean, sample standard deviation as whisker, one dot per seed.

    Each protocol and kind of labels has its own panel.

    Returns:
        ``path``, or None without any group.
    """
    if not groups:
        return None
    from matplotlib.patches import Patch

    panels: dict[str, list[Group]] = {}
    for item in groups:
        dataset = f"{item.dataset}: " if len({other.dataset for other in groups}) > 1 else ""
        panels.setdefault(f"{dataset}{item.protocol.replace('_', ' ')}, {item.labels} labels", []).append(item)
    pools = several_pools(groups)

    def lane_of(item: Group) -> tuple[str, str]:
        return item.method, item.pool if pools else ""

    bars = sorted(
        dict.fromkeys(lane_of(item) for item in groups),
        key=lambda bar: {OURS: 0, BASELINE: 2}.get(bar[0], 1),
    )
    colours, names = _bar_colours(bars), _bar_names(bars)
    places = [list(dict.fromkeys((item.student, item.ipc) for item in inside)) for inside in panels.values()]
    widths = [max(2.6, 0.55 * len(place) * len(bars)) for place in places]
    width = max(4.8, 0.8 + sum(widths))
    with _chart(path, width, 4.0, len(panels), sharey=True, width_ratios=widths) as axes:
        for axis, (title, inside), place in zip(axes, panels.items(), places, strict=True):
            for item in inside:
                lane = bars.index(lane_of(item))
                x = place.index((item.student, item.ipc)) + 0.84 * ((lane + 0.5) / len(bars) - 0.5)
                _bar(axis, x, 0.76 / len(bars), item, colours[lane_of(item)])
            several_ipc = len({item.ipc for item in groups}) > 1
            ticks = [f"{student}\nIPC {ipc}" if several_ipc else student for student, ipc in place]
            axis.set_xticks(range(len(ticks)), ticks)
            axis.grid(False, axis="x")
            axis.tick_params(axis="x", length=0)
            axis.set_title(title)
            axis.margins(y=0.1)
        axes[0].set_ylabel("top-1 accuracy (%)")
        handles = [Patch(color=colours[bar], label=names[bar]) for bar in bars]
        columns = max(1, min(len(bars), int(width / (0.75 + 0.085 * max(map(len, names.values()))))))
        axes[0].figure.legend(handles=handles, loc="outside lower left", ncols=columns)
    return path


def _bar(axis: Axes, x: float, width: float, item: Group, colour: str) -> None:
    axis.bar(x, item.mean, width, color=colour)
    if item.std is not None:
        axis.errorbar(x, item.mean, item.std, color="#222222", capsize=3, lw=1.2)
    axis.plot([x - 0.3 * width] * len(item.top1), item.top1, "o", ms=3.5, color="white", mec="#222222", mew=0.7)
    top = max(item.mean + (item.std or 0), *item.top1, item.mean)
    axis.annotate(f"{item.mean:.1f}", (x, top), (0, 4), textcoords="offset points", ha="center", fontsize=9)


def _bar_colours(bars: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Teddy blue and random grey in every report; the others in turn, and again for further pools of one
    method.
    """
    colours, spare = {}, 0
    fixed = {OURS: BLUE, BASELINE: GREY}
    for bar in bars:
        colour = fixed.pop(bar[0], None)
        colours[bar] = colour or OTHERS[spare % len(OTHERS)]
        spare += colour is None
    return colours


def _bar_names(bars: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    methods = [method for method, _ in bars]
    return {bar: bar[0] if methods.count(bar[0]) == 1 else f"{bar[0]}, {bar[1]}" for bar in bars}
