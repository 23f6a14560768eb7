"""The ablation dashboard of a Weights & Biases project: ``python -m teddy.report.dashboard --dry-run``.

Needs the extra ``dashboard`` (wandb-workspaces); an account only to save, not to print.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from teddy.config.errors import BadInput
from teddy.runtime import metrics
from teddy.runtime.wandb_mode import has_key

DEFAULT_STUDENTS = tuple(f"{method}/paper/stored/convnet3_w32" for method in ("teddy", "converged", "random"))
GROUPS = {"experiment": "Group", "pool": "pool.label", "IPC": "synthesis.ipc"}
"""What accuracy is compared by: the run's group, or a key of the configuration."""
KEYS = ("synthesis.teachers_per_block", "pool.size", "labels.members", "synthesis.ipc")
"""What an ablation changes."""
COSTS = {
    metrics.COST_POOL_SECONDS: "training of the pool (s)",
    metrics.COST_SYNTHESIS_SECONDS: "synthesis (s)",
    metrics.COST_SYNTHESIS_PEAK_MEMORY_MB: "peak memory of synthesis (MB)",
    metrics.LABELS_STORAGE_MB: "stored labels (MB)",
}


def workspace(entity: str, project: str, students: Sequence[str]) -> Any:
    """The dashboard, not saved yet; neither account nor network is needed.

    Args:
        students: settings as ``method/protocol/labels/student``; ablations and costs are drawn against the first.

    Raises:
        BadInput: the extra is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise BadInput(
            f"the dashboard needs wandb-workspaces ({error}); pip install 'teddy-distill[dashboard]'."
        ) from error

    accuracies = [metrics.student(name) for name in students]
    top1 = wr.SummaryMetric(accuracies[0])

    def bars(title: str, names: Sequence[str], group: str | None = None) -> Any:
        key = group if group in (None, "Group") else wr.Config(group)
        return wr.BarPlot(
            title=title, metrics=list(names), groupby=key, groupby_aggfunc="mean", groupby_rangefunc="stddev"
        )

    def curve(title: str, x: str, *names: str, log: bool = False) -> Any:
        return wr.LinePlot(title=title, x=x, y=list(names), log_y=log)

    def against(title: str, x: Any) -> Any:
        return wr.ScatterPlot(title=f"top-1 against {title}", x=x, y=top1)

    def student_curve(name: str) -> Any:
        method, protocol, _, student = name.split("/")
        fit = metrics.student_fit(method, protocol, student, seed=0)
        title = f"loss: {method}, {protocol}, {student}, seed 0"
        return curve(title, metrics.step_of(fit), metrics.in_fit(fit, metrics.EVALUATION_LOSS), log=True)

    axes: list[Any] = [*map(wr.Config, KEYS), top1]
    synthesis, pool = metrics.step_of(metrics.SYNTHESIS), metrics.step_of(metrics.POOL)
    panels = {
        "Accuracy": [
            bars("top-1 by run (%)", accuracies),
            *(bars(f"top-1 by {title} (%)", accuracies, key) for title, key in GROUPS.items()),
            bars("standard deviation over students", [metrics.student(name, "top1_std") for name in students]),
            wr.RunComparer(diff_only="split"),
        ],
        "Ablations": [
            *(against(key, wr.Config(key)) for key in KEYS),
            wr.ParallelCoordinatesPlot(columns=[wr.ParallelCoordinatesPlotColumn(metric=axis) for axis in axes]),
            wr.ParameterImportancePlot(with_respect_to=accuracies[0]),
            against("distance to the teachers (nats)", wr.SummaryMetric(metrics.DIVERGENCE_MEAN)),
        ],
        "Synthesis": [
            curve("loss (Eq. 7)", synthesis, metrics.SYNTHESIS_LOSS, log=True),
            curve("cross-entropy", synthesis, metrics.SYNTHESIS_LOSS_CE, log=True),
            curve("BatchNorm statistics", synthesis, metrics.SYNTHESIS_LOSS_BN, log=True),
            wr.MediaBrowser(media_keys=[metrics.SYNTHESIS_IMAGES], mode="grid", grid_x_axis="run", grid_y_axis="step"),
        ],
        "Pool": [
            curve("teachers' accuracy (%)", metrics.POOL_EPOCH, metrics.POOL_TOP1_HOLDOUT, metrics.POOL_TOP1_TEST),
            curve("loss", pool, metrics.POOL_LOSS),
        ],
        "Students": [student_curve(name) for name in students],
        "Cost": [
            *(bars(title, [name]) for name, title in COSTS.items()),
            *(against(title, wr.SummaryMetric(name)) for name, title in COSTS.items()),
        ],
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name="Teddy: ablations",
        sections=[ws.Section(name=name, panels=items, is_open=True) for name, items in panels.items()],
        runset_settings=ws.RunsetSettings(pinned_columns=[f"summary:{name}" for name in accuracies]),
    )


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m teddy.report.dashboard", description="Teddy's ablation dashboard in W&B."
    )
    parser.add_argument("--dry-run", action="store_true", help="print it as JSON; needs no account and no network")
    parser.add_argument("--entity", help="user or team that owns the project")
    parser.add_argument("--project", default="teddy")
    parser.add_argument("--students", nargs="+", default=DEFAULT_STUDENTS, metavar="METHOD/PROTOCOL/LABELS/STUDENT")
    options = parser.parse_args(words)
    try:
        for name in options.students:
            if len(name.split("/")) != 4 or not all(name.split("/")):
                raise BadInput(
                    f"--students {name} is not METHOD/PROTOCOL/LABELS/STUDENT, such as {DEFAULT_STUDENTS[0]}."
                )
        view = workspace(options.entity or "", options.project, options.students)
        if options.dry_run:
            print(view._to_model().model_dump_json(by_alias=True, indent=1))
            return 0
        if not has_key():
            raise BadInput("no W&B API key was found; run `wandb login`, or print the dashboard with --dry-run.")
        if not options.entity:
            raise BadInput("--entity is missing; name the user or team that owns the project.")
        try:
            view.save_as_new_view()  # says where
        except Exception as error:  # of W&B's many kinds
            raise BadInput(
                f"W&B did not save the dashboard ({error}); look at --entity, --project and the key."
            ) from error
    except BadInput as error:
        print(f"teddy: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
