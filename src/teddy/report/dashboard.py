"""A workspace for a Weights & Biases project: ``python -m teddy.report.dashboard --dry-run``.

Needs the extra ``dashboard`` (wandb-workspaces); an account only to save, not to print.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from teddy.config.errors import UserError
from teddy.runtime import metrics
from teddy.runtime.wandb_run import has_key

KEYS = ("synthesis.teachers_per_block", "pool.size", "labels.members", "synthesis.ipc")
"""Settings that an ablation changes."""
CURVES = {
    "Synthesis": "^synthesis/(?!.*(step|block|iteration)$)",
    "Pool": "^pool/.*(loss|top1)$",
    "Students": "^evaluation/.*loss$",
}
"""Curves by section: regular expressions for the names of metrics, so that any method's and term's are drawn."""
COSTS = tuple(name for name in metrics.FIXED if name.startswith("cost/") or name == metrics.LABELS_STORAGE_MB)


def workspace(entity: str, project: str, students: Sequence[str]) -> Any:
    """Build the workspace without saving it; neither account nor network is needed.

    Args:
        students: settings as ``METHOD/PROTOCOL/LABELS/STUDENT`` with bars for their accuracy; of the first, also the images,
            and the accuracy over the settings that an ablation changes.

    Raises:
        UserError: the extra is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        remedy = "install 'teddy-distill[dashboard]'"
        raise UserError(f"the dashboard needs wandb-workspaces ({error}); {remedy}.") from error
    bars: Any = partial(wr.BarPlot, groupby_aggfunc="mean", groupby_rangefunc="stddev")
    panels: dict[str, list[Any]] = {
        name: [wr.LinePlot(title=name, metric_regex=regex, log_y=True)] for name, regex in CURVES.items()
    }
    panels["Cost"] = [bars(title=name, metrics=[name]) for name in COSTS]
    if names := [metrics.student(name) for name in students]:
        top1 = wr.SummaryMetric(names[0])
        images = metrics.in_fit(f"{metrics.SYNTHESIS}/{students[0].split('/')[0]}", metrics.SYNTHESIS_IMAGES)
        panels["Synthesis"] += [wr.MediaBrowser(media_keys=[images], mode="grid")]
        axes: list[Any] = [*map(wr.Config, KEYS), top1]
        columns = [wr.ParallelCoordinatesPlotColumn(metric=axis) for axis in axes]
        panels["Accuracy"] = [
            bars(title="top-1 by run (%)", metrics=names),
            bars(title="top-1 by group (%)", metrics=names, groupby="Group"),
            wr.RunComparer(diff_only="split"),
        ]
        panels["Ablations"] = [
            *(wr.ScatterPlot(title=f"top-1 over {key}", x=wr.Config(key), y=top1) for key in KEYS),
            wr.ParallelCoordinatesPlot(columns=columns),
            wr.ParameterImportancePlot(with_respect_to=names[0]),
        ]
    sections = [ws.Section(name=name, panels=items, is_open=True) for name, items in panels.items()]
    return ws.Workspace(entity=entity, project=project, name="Teddy", sections=sections)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 2 with a sentence."""
    parser = argparse.ArgumentParser("python -m teddy.report.dashboard", description="Teddy's workspace in W&B.")
    parser.add_argument("--dry-run", action="store_true", help="print it as JSON; needs no account and no network")
    parser.add_argument("--entity", default="", help="user or team that owns the project")
    parser.add_argument("--project", default="teddy")
    parser.add_argument("--students", nargs="+", default=(), metavar="METHOD/PROTOCOL/LABELS/STUDENT")
    try:
        _save_or_print(parser.parse_args(argv))
    except UserError as error:
        print(f"teddy: {error}", file=sys.stderr)
        return 2
    return 0


def _save_or_print(options: argparse.Namespace) -> None:
    for name in options.students:
        if name.count("/") != 3:
            raise UserError(f"--students {name} is not METHOD/PROTOCOL/LABELS/STUDENT.")
    view = workspace(options.entity, options.project, options.students)
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
