"""The report's charts, drawn without a display.

The colours are Okabe and Ito's, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from teddy.report.tables import BASELINE, NAMES, OURS, Group, place_of, several_pools
from teddy.runtime import metrics
from teddy.runtime.curves import read_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8C8C8C"
OF_METHOD = {OURS: BLUE, "sre2l": PURPLE, "converged": ORANGE, BASELINE: GREY}
OTHERS = (ORANGE, GREEN, PURPLE, "#E69F00", "#56B4E9", "#000000")
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
def chart(
    path: Path, width: float, height: float, panels: int = 1, across: int | None = None, **options: Any
) -> Iterator[list[Axes]]:
    """Opens a figure in inches with panels, ``across`` of them (or all) side by side, and writes it to ``path`` when the
    block ends.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    across = min(across or panels, panels)
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=DPI)
        axes = list(figure.subplots(-(-panels // across), across, squeeze=False, **options).flat)
        for empty in axes[panels:]:
            empty.remove()
        yield axes[:panels]
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
    with chart(path, 4.8 * len(panels), 3.4, len(panels)) as axes:
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
    """Accuracy of the teachers: snapshots of one training run over its epochs, or one place for each pruned copy.

    Args:
        members: one mapping per teacher with ``epoch``, ``chosen`` (bool) and, in percent where known,
            ``top1_holdout`` and ``top1_test``. Where an epoch repeats or is no whole number, the teachers are copies with
            a little training each, and stand side by side with their epochs below.

    Returns:
        ``path``, or None without any accuracy.
    """
    series = [("top1_holdout", "held-out training images", BLUE), ("top1_test", "test images", ORANGE)]
    series = [entry for entry in series if any(member.get(entry[0]) is not None for member in members)]
    if not series:
        return None
    members = sorted(members, key=lambda member: (member["epoch"], member.get(series[0][0]) or 0))
    epochs = [float(member["epoch"]) for member in members]
    copies = len(set(epochs)) < len(epochs) or not all(epoch.is_integer() for epoch in epochs)
    xs = np.arange(len(members)) if copies else np.asarray(epochs)
    chosen = np.asarray([bool(member.get("chosen")) for member in members])
    with chart(path, max(6.4, 2 + 0.3 * len(members) * copies), 3.6) as (axis,):
        for number, (key, name, colour) in enumerate(series):
            ys = np.asarray([np.nan if member.get(key) is None else member[key] for member in members], float)
            places = xs + copies * 0.2 * (number - (len(series) - 1) / 2)
            if copies:
                axis.plot(places[~chosen], ys[~chosen], "o", color=colour, ms=6, mfc="white")
            else:
                axis.plot(xs, ys, color=colour, lw=1.5)
            axis.plot(places[chosen], ys[chosen], "o", color=colour, ms=7, mec="white", mew=0.8)
            axis.plot([], [], "s" if copies else "-", color=colour, lw=1.5, label=name)
        axis.plot([], [], "o", color=GREY, ms=7, mec="white", label="in the pool")
        if copies:
            if not chosen.all():
                axis.plot([], [], "o", color=GREY, ms=6, mfc="white", label="not in the pool")
            axis.set_xticks(xs, [f"{round(epoch, 2):g}" for epoch in epochs], fontsize=9)
            axis.grid(False, axis="x")
        else:
            axis.locator_params(axis="x", integer=True)
        axis.set(xlabel="epochs of training of each teacher" if copies else "epoch", ylabel="top-1 accuracy (%)")
        axis.set_title("The pool's teachers")
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
        panels.setdefault(f"{dataset}{item.protocol.replace('_', ' ')} protocol, {item.labels} labels", []).append(item)
    pools = several_pools(groups)

    def lane_of(item: Group) -> tuple[str, str]:
        return item.method, item.pool if pools else ""

    bars = sorted(dict.fromkeys(lane_of(item) for item in groups), key=lambda bar: place_of(bar[0]))
    colours, names = colours_of(bars), _bar_names(bars)
    places = [list(dict.fromkeys((item.student, item.ipc) for item in inside)) for inside in panels.values()]
    sizes = [0.55 * len(place) * len(bars) for place in places]
    widths = [max(2.6, 0.095 * len(title), size) for title, size in zip(panels, sizes, strict=True)]
    across = len(panels) if len(panels) <= 3 else 2  # more would be too small to read on a phone
    ratios = [max(widths[column::across]) for column in range(across)]
    size = max(4.8, 0.8 + sum(ratios)), 4.0 * -(-len(panels) // across)
    with chart(path, *size, len(panels), across, sharey=True, width_ratios=ratios) as axes:
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
        for axis in axes[::across]:
            axis.set_ylabel("top-1 accuracy (%)")
        legend_below(axes[0], [Patch(color=colours[bar], label=names[bar]) for bar in bars])
    return path


def legend_below(axis: Axes, handles: Sequence[Any]) -> None:
    """A legend below the whole figure, in as many columns as its width allows."""
    figure: Any = axis.figure
    longest = max(len(handle.get_label()) for handle in handles)
    columns = max(1, min(len(handles), int(figure.get_figwidth() / (0.65 + 0.08 * longest))))
    figure.legend(handles=handles, loc="outside lower left", ncols=columns, columnspacing=1.2)


def _bar(axis: Axes, x: float, width: float, item: Group, colour: str) -> None:
    axis.bar(x, item.mean, width, color=colour)
    if item.std is not None:
        axis.errorbar(x, item.mean, item.std, color="#222222", capsize=3, lw=1.2)
    axis.plot([x - 0.3 * width] * len(item.top1), item.top1, "o", ms=3.5, color="white", mec="#222222", mew=0.7)
    top = max(item.mean + (item.std or 0), *item.top1, item.mean)
    axis.annotate(f"{item.mean:.1f}", (x, top), (0, 4), textcoords="offset points", ha="center", fontsize=9)


def colours_of(lanes: Sequence[tuple[str, Any]]) -> dict[tuple[str, Any], str]:
    """A colour for each (method, variant): a method's first variant has the method's own colour in every report, all of
    random's are grey, and the others take what is left in turn.
    """
    fixed = {method: OF_METHOD[method] for method, _ in reversed(lanes) if method in OF_METHOD}
    spare = [colour for colour in OTHERS if colour not in fixed.values()] or list(OTHERS)
    colours, taken = {}, 0
    for lane in lanes:
        method = lane[0]
        colour = fixed[BASELINE] if method == BASELINE else fixed.pop(method, None)
        colours[lane] = colour or spare[taken % len(spare)]
        taken += colour is None
    return colours


def _bar_names(bars: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    methods = [method for method, _ in bars]
    names = {bar: NAMES.get(bar[0], bar[0]) for bar in bars}
    return {bar: names[bar] if methods.count(bar[0]) == 1 else f"{names[bar]}, {bar[1]}" for bar in bars}
