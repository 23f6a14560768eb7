"""One log per invocation, shared by all stages: CSV curves always, a Weights & Biases run if there is one."""

from __future__ import annotations

import json
import logging
import os
import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers.logger import Logger

from teddy.artifacts.store import read_json, write_json
from teddy.config.errors import BadInput
from teddy.runtime import metrics as names
from teddy.runtime.curves import CurveFile
from teddy.runtime.wandb_mode import choose_mode

log = logging.getLogger("teddy")

GRID_COLUMNS = 10
LONG_FACT = 4000
"""Characters of JSON beyond which a fact stays out of an artifact's metadata, such as the loss curves of all blocks."""


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
        self._artifacts: dict[str, str] = {}

    def stage(self, name: str, first_step: int = 0) -> StageLogger:
        """A Lightning logger for one fit.

        Args:
            name: a stage, or a fit within a stage such as ``evaluation/resnet18/seed0``; each name has its
                own CSV file and its own x-axis, so the students of one run do not write over each other.
            first_step: steps that an earlier, interrupted run did of this fit; Lightning counts from 0 again.
        """
        return StageLogger(self, name, first_step)

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
            self._run.log(
                {names.in_fit(stage, name): value for name, value in values.items()} | {names.step_of(stage): step}
            )

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
    def picture(self, stage: str, step: int, key: str, images: torch.Tensor, caption: str = "") -> None:
        """Shows images, uint8 (n, C, H, W), as one grid at a step of a stage; nothing is written without W&B."""
        if self._run is None:
            return
        import wandb
        from torchvision.utils import make_grid

        grid = make_grid(images, nrow=GRID_COLUMNS, pad_value=255).permute(1, 2, 0).numpy()
        picture = wandb.Image(grid, caption=caption)
        self._run.log({names.in_fit(stage, key): picture, names.step_of(stage): step})

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
    def artifact(
        self,
        name: str,
        type: str,
        files: Path | Sequence[Path] | None,
        metadata: Mapping[str, Any],
        parents: Sequence[str] = (),
        made: bool = True,
    ) -> None:
        """Hands finished work to W&B, for the lineage pool → images → labels → students.

        What this run made becomes its output, what it found in the store its input; so W&B's graph leads from the run that
        trained a pool to the runs that used it. Steps within one run have no edges there: they stand in the metadata under
        ``parents``. The same work is the same version, because ``artifact.json`` and an alias hold its fingerprint.

        Args:
            type: ``teachers``, ``synset`` or ``labels``.
            files: a folder, single files, or None to leave the files in the store and hand over the facts alone.
            metadata: facts, among them ``fingerprint``; long ones are left out.
            parents: names of the artifacts it was made from, handed over before.
            made: by this run, as opposed to found in the store.
        """
        name = _artifact_name(name)
        self._artifacts[name] = fingerprint = str(metadata["fingerprint"])
        if self._run is None:
            return
        import wandb

        lineage = {parent: self._artifacts[parent] for parent in map(_artifact_name, parents)}
        facts = {key: value for key, value in metadata.items() if len(json.dumps(value, default=str)) <= LONG_FACT}
        artifact = wandb.Artifact(name, type, metadata={**facts, "parents": lineage})
        note = Path(self._run.dir).parent / "artifacts" / f"{name}.json"
        note.parent.mkdir(exist_ok=True)
        write_json(note, {"name": name, "type": type, "fingerprint": fingerprint, "parents": lineage})
        # "immutable": finished work never changes, so W&B need not copy it before uploading.
        artifact.add_file(str(note), "artifact.json", policy="immutable")
        for path, inside in _files(files):
            artifact.add_file(str(path), inside, policy="immutable")
        if made:
            self._run.log_artifact(artifact, aliases=[fingerprint])
            return
        try:
            # This is what use_artifact does with a new artifact, but use_artifact refuses to do it offline.
            self._run._log_artifact(artifact, aliases=[fingerprint], is_user_created=True, use_after_commit=True)
        except (AttributeError, TypeError):  # another version of W&B; as an output it is shown as well
            self._run.log_artifact(artifact, aliases=[fingerprint])

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


def _artifact_name(name: str) -> str:
    return re.sub(r"[^\w.-]", "-", name)


def _files(files: Path | Sequence[Path] | None) -> list[tuple[Path, str]]:
    """Files and their names in an artifact; hidden ones are no part of finished work."""
    if files is None:
        return []
    if isinstance(files, Path):
        folder, found = files, [path for path in sorted(files.rglob("*")) if path.is_file()]
    else:
        folder, found = Path(os.path.commonpath([path.parent for path in files])), sorted(files)
    return [(path, path.relative_to(folder).as_posix()) for path in found if not path.name.startswith(".")]


class StageLogger(Logger):
    """Lightning's view of a :class:`RunLog`; steps are counted from ``first_step`` on."""

    def __init__(self, run_log: RunLog, name: str, first_step: int = 0) -> None:
        super().__init__()
        self._run_log, self._name, self._first_step = run_log, name, first_step

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
        # Lightning adds an epoch that counts from 0 where the fit was resumed; who needs epochs logs them.
        values = {name: value for name, value in metrics.items() if name != "epoch"}
        self._run_log.scalars(self._name, self._first_step + (step or 0), values)

    def log_image(self, key: str, images: torch.Tensor, step: int, caption: str = "") -> None:
        """Shows images, uint8 (n, C, H, W), at a step of the fit."""
        self._run_log.picture(self._name, self._first_step + step, key, images, caption)

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
