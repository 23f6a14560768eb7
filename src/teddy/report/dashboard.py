"""A workspace in Weights & Biases for the runs of any sweep: ``python -m teddy.report.dashboard --dry-run RUN``.

Needs the extra ``dashboard`` (wandb-workspaces); an account only to save, not to print.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from teddy.config.errors import UserError
from teddy.report.comparison import compare
from teddy.report.runs import Run, read_runs
from teddy.runtime import metrics
from teddy.runtime.wandb_run import has_key

# By section, regular expressions for the names of curves, so that any method's and term's are drawn.
CURVES = {
    "Synthesis": "^synthesis/(?!.*(step|block|iteration|lr)$)",
    "Pool": "^pool/.*(loss|top1)$",
    "Students": "^evaluation/.*(loss|top1)$",
    "Learning rates": "^(pool|synthesis|evaluation)/.*lr$",
}
COSTS = tuple(name for name in metrics.FIXED if name.startswith("cost/") or name == metrics.LABELS_STORAGE_MB)


def workspace(entity: str, project: str, runs: Sequence[Run] = ()) -> Any:
    """Build the workspace without saving it; neither account nor network is needed.

    Students and the settings that vary are those of the runs; without any there are curves and costs alone.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        remedy = "install 'teddy-distill[dashboard]'"
        raise UserError(f"the dashboard needs wandb-workspaces ({error}); {remedy}.") from error
    bars: Any = partial(wr.BarPlot, groupby_aggfunc="mean", groupby_rangefunc="stddev")
    panels: Any = {name: [wr.LinePlot(title=name, metric_regex=regex, log_y=True)] for name, regex in CURVES.items()}
    panels["Cost"] = [bars(title=name, metrics=[name]) for name in COSTS]
    if runs:
        rows = sorted((row for run in runs for row in run.results), key=lambda row: row.baseline)
        settings = {f"{row.method}/{row.protocol}/{row.labels}/{row.student}": row for row in rows}
        names = [metrics.student(setting, row.measure) for setting, row in settings.items()]
        optimised = dict.fromkeys(name for run in runs for name in run.methods if run.path(name, "snapshots"))
        images = [metrics.in_fit(f"{metrics.SYNTHESIS}/{name}", metrics.SYNTHESIS_IMAGES) for name in optimised]
        panels["Synthesis"] += [wr.MediaBrowser(media_keys=images, mode="grid")] * bool(images)
        panels["Accuracy"] = [
            bars(title="accuracy by run (%)", metrics=names),
            bars(title="accuracy by group (%)", metrics=names, groupby="Group"),
            wr.RunComparer(diff_only="split"),
        ]
        # A file of a group, such as pool=prior, is no single setting: its runs stand side by side above.
        keys = [key for key in compare(runs).values if any(key in run.settings for run in runs)]
        own = [name for name, row in zip(names, settings.values(), strict=True) if row.method == rows[0].method]
        if keys:
            pairs = [(key, name) for key in keys for name in own]
            over = [wr.ScatterPlot(title=f"{y} over {x}", x=wr.Config(x), y=wr.SummaryMetric(y)) for x, y in pairs]
            axes: list[Any] = [*map(wr.Config, keys), wr.SummaryMetric(names[0])]
            both = wr.ParallelCoordinatesPlot(columns=[wr.ParallelCoordinatesPlotColumn(metric=axis) for axis in axes])
            panels["Ablations"] = [*over, both, wr.ParameterImportancePlot(with_respect_to=names[0])]
    sections = [ws.Section(name=name, panels=items, is_open=True) for name, items in panels.items()]
    title = ", ".join(["Teddy", *dict.fromkeys(run.name for run in runs)])
    return ws.Workspace(entity=entity, project=project, name=title, sections=sections)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 2 with a sentence."""
    parser = argparse.ArgumentParser("python -m teddy.report.dashboard", description="Teddy's workspace in W&B.")
    parser.add_argument("--dry-run", action="store_true", help="print it as JSON; needs no account and no network")
    parser.add_argument("--entity", default="", help="user or team that owns the project")
    parser.add_argument("--project", default="teddy")
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="finished run or sweep")
    try:
        _save_or_print(parser.parse_args(argv))
    except UserError as error:
        print(f"teddy: {error}", file=sys.stderr)
        return 2
    return 0


def _save_or_print(options: argparse.Namespace) -> None:
    view = workspace(options.entity, options.project, read_runs(options.runs) if options.runs else ())
    if options.dry_run:
        print(view._to_model().model_dump_json(by_alias=True, indent=1))
        return
    if not has_key():
        raise UserError("no W&B API key was found; run `wandb login`, or print the dashboard with --dry-run.")
    if not options.entity:
        raise UserError("--entity is missing; name the user or team that owns the project.")
    try:
        view.save_as_new_view()  # prints the address
    except Exception as error:  # W&B has many kinds
        raise UserError(f"W&B did not save the dashboard ({error}); check --entity, --project and the key.") from error


if __name__ == "__main__":
    sys.exit(main())
