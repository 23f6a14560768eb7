"""One log per invocation, shared by all stages, which hands everything to any number of Lightning loggers."""

from __future__ import annotations

import inspect
import logging
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from teddy.artifacts.processes import is_leader
from teddy.artifacts.store import read_json, write_json
from teddy.config.errors import StageFailed, UserError
from teddy.runtime import metrics as names
from teddy.runtime.wandb_run import WandbRun, open_run, reach

GRID_COLUMNS = 10


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise StageFailed with the folder's name if it cannot be written: a full or read-only disk, a user's share used up."""
    try:
        yield
    except BrokenPipeError:  # of what is printed, not of a file
        raise
    except OSError as error:
        raise StageFailed(
            f"the output folder {folder} cannot be written ({error.strerror or error}); free some space or set "
            "hydra.run.dir=FOLDER, and run the command again: finished work is kept."
        ) from error


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Write what the first process logs to a file as well; its folder need not be there before something is logged."""
    if not is_leader():
        yield
        return
    root, raises, handler = logging.getLogger(), logging.raiseExceptions, logging.FileHandler(path, delay=True)
    logging.raiseExceptions = False  # a full disk is reported once, not by every line of this file
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        with suppress(OSError):  # of a full disk
            handler.close()
        logging.raiseExceptions = raises


class RunLog:
    """Everything that one invocation measures; final numbers also go to ``summary.json`` in its output folder."""

    def __init__(self, folder: Path, loggers: Sequence[Logger] = (), wandb: WandbRun | None = None) -> None:
        self.folder, self.loggers, self.wandb = folder, list(loggers), wandb
        self._final: dict[str, float] = {}

    def stage(self, name: str, first_step: int = 0) -> StageLogger:
        """Make a Lightning logger for a stage or a fit within it, which an interrupted run left at its ``first_step``."""
        return StageLogger(self, name, first_step)

    def image(self, key: str, path: Path) -> None:
        """Show an image file."""
        from PIL import Image

        if self.loggers:
            with Image.open(path) as image:
                self.show(key, np.asarray(image.convert("RGB")))
        if self.wandb is not None:
            self.wandb.image(key, path)

    def show(self, key: str, image: np.ndarray, step: int = 0) -> None:
        """Give an image (H, W, C) to the loggers that have a method for it: Lightning's own, TensorBoard's or MLflow's."""
        for logger, experiment in self._experiments():
            with writing(self.folder):
                if hasattr(logger, "log_image"):
                    logger.log_image(key, [image], step)
                elif hasattr(experiment, "add_image"):
                    experiment.add_image(key, image, step, dataformats="HWC")
                elif hasattr(experiment, "log_image"):
                    experiment.log_image(logger.run_id, image, key=key, step=step)

    def text(self, key: str, text: str) -> None:
        """Show Markdown in TensorBoard and MLflow."""
        for logger, experiment in self._experiments():
            with writing(self.folder):
                if hasattr(experiment, "add_text"):
                    experiment.add_text(key, text)
                elif hasattr(experiment, "log_text"):
                    experiment.log_text(logger.run_id, text, f"{key}.md")

    def _experiments(self) -> list[tuple[Any, Any]]:
        return [(logger, getattr(logger, "experiment", None)) for logger in self.loggers]

    def summary(self, values: Mapping[str, Any]) -> None:
        """Record final numbers, in ``summary.json`` and in all loggers."""
        if not is_leader():
            return
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / "summary.json"
            write_json(path, {**(read_json(path) if path.is_file() else {}), **values})
            numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
            self._final |= numbers
            for logger in self.loggers:
                if not isinstance(logger, TensorBoardLogger):
                    logger.log_metrics(numbers, 0)
        if self.wandb is not None:
            self.wandb.summary(values)

    def finish(self, exit_code: int = 0) -> None:
        """Close all loggers."""
        with writing(self.folder):
            for logger in self.loggers:
                if isinstance(logger, TensorBoardLogger) and self._final:
                    logger.log_hyperparams(dict(logger.hparams), self._final)  # once, with all of them
                logger.finalize("success" if exit_code == 0 else "failed")
        if self.wandb is not None:
            self.wandb.finish(exit_code)
        self.loggers, self.wandb = [], None


class StageLogger(Logger):
    """Lightning's view of a :class:`RunLog`: curves carry the name of the fit, and steps count from ``first_step`` on."""

    version = ""

    def __init__(self, run_log: RunLog, name: str, first_step: int) -> None:
        super().__init__()
        self._run_log, self._name, self._first_step = run_log, name, first_step

    @property
    def name(self) -> str:
        return self._name

    @property
    def save_dir(self) -> str:
        return str(self._run_log.folder)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        step = self._first_step + (step or 0)
        # Lightning adds an epoch that counts from 0 where the fit was resumed; a module that needs epochs logs them.
        values = {names.in_fit(self._name, name): float(one) for name, one in metrics.items() if name != "epoch"}
        with writing(self._run_log.folder):
            for logger in self._run_log.loggers:
                logger.log_metrics(values, step)
        if self._run_log.wandb is not None:
            self._run_log.wandb.log(self._name, step, values)

    def log_image(self, key: str, images: torch.Tensor, step: int, caption: str = "") -> None:
        """Show images, uint8 (n, C, H, W), as one grid at a step of the fit."""
        from torchvision.utils import make_grid

        log, key, step = self._run_log, names.in_fit(self._name, key), self._first_step + step
        if not log.loggers and log.wandb is None:
            return
        grid = make_grid(images, nrow=GRID_COLUMNS, pad_value=255).permute(1, 2, 0).numpy()
        log.show(key, grid, step)
        if log.wandb is not None:
            log.wandb.image(key, grid, caption, self._name, step)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the whole resolved config is logged when the run is opened."""


def open_loggers(
    factories: Mapping[str, Callable[..., Logger]],
    folder: Path,
    name: str,
    group: str,
    job_type: str,
    tags: Sequence[str],
    config: Mapping[str, Any],
) -> RunLog:
    """Make the invocation's loggers, once; none in processes other than the first.

    A factory is a ``functools.partial`` of a logger's class with the arguments that are configured. Of the run's facts it is
    given those that its class accepts and that are not configured: ``save_dir``, ``name`` (``run_name``), and for W&B all of
    them. UserError if a package is missing, a server does not answer, or W&B cannot be used as configured.
    """
    if not is_leader():
        return RunLog(folder)
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"save_dir": str(folder), "name": name}
    loggers, wandb = [], None
    for key, factory in factories.items():
        kind, given = getattr(factory, "func", factory), getattr(factory, "keywords", {})
        if inspect.isclass(kind) and issubclass(kind, WandbLogger):
            short = [tag[:64] for tag in tags if tag]  # W&B's limit
            offered = facts | dict(group=group, job_type=job_type, tags=short, config=dict(config))
            wandb = open_run(partial(factory, **_missing(offered, given)), given.get("offline"))
        else:
            for server in (one for one in given.values() if str(one).startswith(("http://", "https://"))):
                try:
                    reach(server)
                except OSError as error:
                    raise UserError(
                        f"logger={key}: the server {server} does not answer ({error}); start it or name another logger."
                    ) from error
            accepted = inspect.signature(factory).parameters
            offered = {key: fact for key, fact in (facts | {"run_name": name}).items() if key in accepted}
            try:
                logger = factory(**_missing(offered, given))
            except ModuleNotFoundError as error:
                raise UserError(f"logger={key} needs a package that is not installed: {error}") from error
            logger.log_hyperparams(dict(config))
            loggers.append(logger)
    return RunLog(folder, loggers, wandb)


def _missing(offered: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in offered.items() if given.get(key) is None}
