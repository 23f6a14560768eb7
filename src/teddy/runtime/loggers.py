"""One log per invocation, shared by all stages: CSV curves always, a Weights & Biases run if there is one."""

from __future__ import annotations

import logging
import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers.logger import Logger

from teddy.artifacts.store import read_json, write_json
from teddy.config.errors import BadInput
from teddy.runtime import metrics as names
from teddy.runtime.curves import CurveFile
from teddy.runtime.wandb_mode import choose_mode

log = logging.getLogger("teddy")


class RunLog:
    """Where everything that one invocation measures goes. All methods do nothing on ranks other than the
    first.

    Args:
        folder: the invocation's output folder; curves go to ``curves/<stage>.csv``, final numbers to
            ``summary.json``.
        wandb_run: an open W&B run, or None for files only.
    """

    def __init__(self, folder: Path, wandb_run: Any | None = None) -> None:
        self.folder = folder
        self._run = wandb_run
        self._curves: dict[str, CurveFile] = {}

    def stage(self, name: str) -> StageLogger:
        """A Lightning logger for one fit.

        Args:
            name: a stage, or a fit within a stage such as ``evaluation/resnet18/seed0``; each name has its
                own CSV file and its own x-axis, so the students of one run do not write over each other.
        """
        return StageLogger(self, name)

    @rank_zero_only
    def scalars(self, stage: str, step: int, metrics: Mapping[str, Any]) -> None:
        """Logs numbers at a step of a stage.

        ``evaluation/loss`` logged by ``evaluation/resnet18/seed0`` keeps its name in the CSV file and is
        called ``evaluation/resnet18/seed0/loss`` in W&B.
        """
        values = {name: float(value) for name, value in metrics.items()}
        if stage not in self._curves:
            self._curves[stage] = self._open_curve(stage)
        self._curves[stage].append(step, values)
        if self._run is not None:
            prefix = stage.split("/")[0] + "/"
            renamed = {f"{stage}/{name.removeprefix(prefix)}": value for name, value in values.items()}
            self._run.log({**renamed, names.step_of(stage): step})

    def _open_curve(self, stage: str) -> CurveFile:
        if self._run is not None:
            self._run.define_metric(names.step_of(stage), hidden=True)
            self._run.define_metric(f"{stage}/*", step_metric=names.step_of(stage))
        path = self.curve_path(stage)
        path.parent.mkdir(parents=True, exist_ok=True)
        return CurveFile(path)

    def curve_path(self, stage: str) -> Path:
        """The CSV file of a stage's curves."""
        return self.folder / "curves" / f"{stage.replace('/', '-')}.csv"

    @rank_zero_only
    def image(self, key: str, path: Path, caption: str = "") -> None:
        """Shows a picture that was already written."""
        if self._run is not None:
            import wandb

            self._run.log({key: wandb.Image(str(path), caption=caption)})

    @rank_zero_only
    def summary(self, values: Mapping[str, Any]) -> None:
        """Notes final numbers, in W&B's summary and in ``summary.json``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "summary.json"
        write_json(path, {**(read_json(path) if path.is_file() else {}), **values})
        if self._run is not None:
            self._run.summary.update(dict(values))

    @rank_zero_only
    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Shows a table in W&B; the report keeps its own files."""
        if self._run is not None:
            import wandb

            self._run.log({key: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    @rank_zero_only
    def artifact(self, name: str, type: str, folder: Path, metadata: Mapping[str, Any]) -> None:
        """Hands a finished folder to W&B, for the lineage pool → images → labels → students."""
        if self._run is None:
            return
        import wandb

        artifact = wandb.Artifact(re.sub(r"[^\w.-]", "-", name), type, metadata=dict(metadata))
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                # "immutable": finished work never changes, so W&B need not copy it before uploading.
                artifact.add_file(str(path), path.relative_to(folder).as_posix(), policy="immutable")
        self._run.log_artifact(artifact)

    @rank_zero_only
    def finish(self, exit_code: int = 0) -> None:
        """Closes the W&B run. A failure here is reported, never raised: the results are already on disk."""
        run, self._run = self._run, None
        if run is None:
            return
        try:
            run.finish(exit_code=exit_code)
        except Exception as error:
            log.warning("W&B could not close its run (%s); the curves in %s are complete.", error, self.folder)


class StageLogger(Logger):
    """Lightning's view of a :class:`RunLog`."""

    def __init__(self, run_log: RunLog, name: str) -> None:
        super().__init__()
        self._run_log, self._name = run_log, name

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self._run_log.folder)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._run_log.scalars(self._name, step or 0, metrics)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: the whole resolved config is logged when the run is opened."""


def open_log(
    folder: Path,
    mode: str,
    project: str,
    name: str,
    group: str,
    job_type: str,
    tags: Sequence[str],
    config: Mapping[str, Any],
    entity: str | None = None,
) -> RunLog:
    """Opens the invocation's log and says in one line where W&B's part goes.

    Args:
        mode: ``online``, ``offline``, ``disabled`` (CSV only) or ``auto``: what WANDB_MODE says, else online
            if an API key is found, else offline.
        config: the resolved configuration as plain data.

    Raises:
        BadInput: the mode is unknown, or online and there is no key or the server refuses.
    """
    if rank_zero_only.rank != 0:  # type: ignore[attr-defined]
        return RunLog(folder)
    chosen, why = choose_mode(mode)
    if chosen == "disabled":
        log.info("W&B disabled (%s); curves as CSV in %s", why, folder / "curves")
        return RunLog(folder)
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = dict(
        dir=str(folder),
        project=project,
        entity=entity,
        name=name,
        group=group,
        job_type=job_type,
        tags=[tag[:64] for tag in tags if tag],
        config=dict(config),
        reinit="finish_previous",
        settings=wandb.Settings(silent=True, console="off"),
    )
    try:
        run = wandb.init(mode=chosen, **options)
    except (wandb.errors.Error, OSError) as error:
        if chosen == "offline" or mode != "auto":
            raise BadInput(f"W&B could not start ({error}); use logger=offline or logger=csv.") from error
        chosen, why = "offline", f"the server could not be used: {error}"
        run = wandb.init(mode=chosen, **options)
    where = run.url if chosen == "online" else f"{Path(run.dir).parent}, upload later with `wandb sync`"
    log.info("W&B %s (%s): %s", chosen, why, where)
    return RunLog(folder, run)
