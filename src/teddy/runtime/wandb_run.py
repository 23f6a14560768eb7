"""What Weights & Biases needs beyond Lightning's logger: a mode without questions, x-axes, tables, artifacts with lineage."""

from __future__ import annotations

import json
import logging
import os
import re
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from teddy.artifacts.store import write_json
from teddy.config.errors import UserError
from teddy.runtime import metrics as names

LONG_FACT = 4000  # characters of JSON beyond which a fact is no metadata of an artifact, such as all loss curves
PATIENCE = 5.0  # seconds to wait for W&B's server, first for any answer and then for a run
_log = logging.getLogger("teddy")


def choose_mode(offline: bool | None) -> tuple[str, str]:
    """Decide on ``online``, ``offline`` or ``disabled``; return the mode and the reason.

    Where none is configured, it is that of WANDB_MODE, else online if there is an API key, else offline. UserError if WANDB_MODE
    holds no mode, or the mode is online and there is no API key.
    """
    wish = os.environ.get("WANDB_MODE")
    if not wish:
        os.environ.pop("WANDB_MODE", None)  # W&B refuses an empty one
    if offline is not None:
        mode, why = "offline" if offline else "online", f"logger.wandb.offline={str(offline).lower()}"
    elif wish:
        mode, why = {"dryrun": "offline", "run": "online"}.get(wish, wish), f"WANDB_MODE={wish}"
    else:
        mode, why = ("online", "an API key was found") if has_key() else ("offline", "no API key found")
    if mode not in ("online", "offline", "disabled"):
        raise UserError(f"{why} is not a W&B mode; choose online, offline or disabled.")
    if mode == "online" and not has_key():
        raise UserError(f"{why} needs a W&B API key and none was found; run `wandb login` first or use logger=offline.")
    return mode, why


def has_key() -> bool:
    """Whether W&B finds an API key for its server in the environment, its settings files or the netrc file; asks no server."""
    import wandb
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib import wbauth

    try:
        settings = wandb_setup.singleton().settings
        known = settings.api_key or settings.identity_token_file or wbauth.read_netrc_auth(host=settings.base_url)
    except (wandb.Error, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"W&B cannot use its settings ({reason}); run `wandb login` again or use logger=csv."
        ) from error
    return bool(known)


def reach(server: str) -> None:
    """Raise OSError if a server does not answer; a logger would go on trying, at the end of the program as well."""
    problem: Exception | None = TimeoutError("timed out")

    def ask() -> None:
        nonlocal problem
        try:
            urllib.request.urlopen(server, timeout=PATIENCE).close()
            problem = None
        except Exception as error:
            # An error in HTTP is an answer; and W&B has certificates of its own.
            reason = getattr(error, "reason", None)
            problem = None if isinstance(error, urllib.error.HTTPError) or isinstance(reason, ssl.SSLError) else error

    # The limit of urlopen does not hold for the look-up of a name, and holds for each address of several.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE + 1)
    if problem is not None:
        raise problem


def _spared(send: Callable[..., None]) -> Callable[..., None]:
    """A method of :class:`WandbRun` whose failure is logged, never raised; after it nothing is sent."""

    @wraps(send)
    def attempt(run: WandbRun, *arguments: Any, **options: Any) -> None:
        try:
            if not run.failed:
                send(run, *arguments, **options)
        except Exception as error:
            run.failed = True
            _log.warning("W&B failed (%s); nothing more is sent there, and the run goes on.", error)

    return attempt


class WandbRun:
    """An open run of ``wandb.init``, whose failures never end Teddy's run."""

    def __init__(self, run: Any) -> None:
        self._run, self.failed = run, False
        self._defined: set[str] = set()
        self._artifacts: dict[str, str] = {}

    @_spared
    def log(self, fit: str, step: int, values: Mapping[str, Any]) -> None:
        """Log values at a step of a fit; every fit has an x-axis of its own."""
        axis = names.step_of(fit)
        for name in values.keys() - self._defined:
            self._run.define_metric(axis, hidden=True)
            self._run.define_metric(name, step_metric=axis)
            self._defined.add(name)
        self._run.log({**values, axis: step})

    @_spared
    def image(self, key: str, image: Any, caption: str = "", fit: str = "", step: int = 0) -> None:
        """Show an image (a file or an array (H, W, C)), at a step of a fit if there is one."""
        import wandb

        shown = wandb.Image(str(image) if isinstance(image, Path) else image, caption=caption)
        if fit:
            self.log(fit, step, {key: shown})
        else:
            self._run.log({key: shown})

    @_spared
    def summary(self, values: Mapping[str, Any]) -> None:
        """Record final numbers."""
        self._run.summary.update(dict(values))

    @_spared
    def table(self, key: str, table: Any) -> None:
        """Show a table, which is a DataFrame."""
        import wandb

        self._run.log({key: wandb.Table(dataframe=table)})

    @_spared
    def artifact(
        self,
        name: str,
        type: str,
        folder: Path | None,
        facts: Mapping[str, Any],
        parents: Sequence[str] = (),
        made: bool = True,
    ) -> None:
        """Log a finished artifact with its facts, among them ``fingerprint``, and with the files of a folder if there is one.

        What this run made becomes its output, what it found in the store its input; so W&B's graph leads from the run that
        trained a pool to the runs that used it. Steps within one run have no edges there: they stand in the metadata under
        ``parents``, as artifacts that were logged before. The same work is the same version, because ``artifact.json`` and an
        alias hold its fingerprint.
        """
        import wandb

        name, *parents = (re.sub(r"[^\w.-]", "-", one) for one in (name, *parents))
        self._artifacts[name] = fingerprint = str(facts["fingerprint"])
        lineage = {parent: self._artifacts[parent] for parent in parents}
        facts = {key: fact for key, fact in facts.items() if len(json.dumps(fact, default=str)) <= LONG_FACT}
        artifact = wandb.Artifact(name, type, metadata={**facts, "parents": lineage})
        note = Path(self._run.dir).parent / "artifacts" / f"{name}.json"
        note.parent.mkdir(parents=True, exist_ok=True)
        write_json(note, {"name": name, "type": type, "fingerprint": fingerprint, "parents": lineage})
        # "immutable": finished work never changes, so W&B need not copy it before uploading.
        artifact.add_file(str(note), "artifact.json", policy="immutable")
        if folder is not None:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and not path.name.startswith("."):
                    artifact.add_file(str(path), path.relative_to(folder).as_posix(), policy="immutable")
        if made:
            self._run.log_artifact(artifact, aliases=[fingerprint])
            return
        try:
            # This is what use_artifact does with a new artifact, but use_artifact refuses to do it offline.
            self._run._log_artifact(artifact, aliases=[fingerprint], is_user_created=True, use_after_commit=True)
        except (AttributeError, TypeError):  # another version of W&B; as an output it is shown as well
            self._run.log_artifact(artifact, aliases=[fingerprint])

    def finish(self, exit_code: int) -> None:
        """Close the run. A failure is logged, never raised: the results are already on disk."""
        try:
            self._run.finish(exit_code=exit_code)
        except Exception as error:
            _log.warning("W&B could not close its run (%s); the results on disk are complete.", error)


def open_run(make: Callable[..., Any], offline: bool | None) -> WandbRun | None:
    """Open the run of the WandbLogger that ``make`` makes, and log in one line where it goes; None if W&B is disabled.

    Without a configured mode, a server that refuses leaves the run offline; UserError if the run cannot be opened as configured.
    """
    mode, why = choose_mode(offline)
    if mode == "disabled":
        _log.info("W&B disabled (%s)", why)
        return None
    import wandb

    def start(mode: str) -> Any:
        if mode == "online":
            reach(str(wandb.setup().settings.base_url))
        # offline=False: Lightning would set WANDB_MODE for the whole process.
        settings = wandb.Settings(silent=True, console="off", init_timeout=PATIENCE)
        logger = make(offline=False, mode=mode, resume=None, settings=settings)
        getattr(logger, "_wandb_init", {}).pop("anonymous", None)  # W&B warns about it, even where it is None
        return logger.experiment

    try:
        run = start(mode)
    except (wandb.errors.Error, OSError) as error:
        if mode == "offline" or offline is not None:
            raise UserError(f"W&B could not start ({error}); use logger=offline or logger=csv.") from error
        mode, why = "offline", f"the server could not be used: {str(error).splitlines()[0]}"
        run = start(mode)
    where = run.url if mode == "online" else f"{Path(run.dir).parent}, upload later with `wandb sync`"
    _log.info("W&B %s (%s): %s", mode, why, where)
    return WandbRun(run)
