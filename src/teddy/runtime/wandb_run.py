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
from pathlib import Path
from typing import Any

from teddy.artifacts.store import write_json
from teddy.config.errors import UserError
from teddy.runtime import metrics as names

LONG_FACT = 4000
"""Characters of JSON beyond which a fact stays out of an artifact's metadata, such as the loss curves of all blocks."""
PATIENCE = 5.0
"""Seconds to wait for W&B's server, first for any answer and then for a run."""
_log = logging.getLogger("teddy")


def choose_mode(offline: bool | None) -> tuple[str, str]:
    """Decide on ``online``, ``offline`` or ``disabled``; return the mode and the reason.

    Args:
        offline: as configured; None means WANDB_MODE, else online if there is an API key, else offline.

    Raises:
        UserError: WANDB_MODE holds no mode, or the mode is online and there is no API key.
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
    """Whether W&B finds an API key for its server in the environment, its settings files or the netrc file; asks no server.

    Raises:
        UserError: W&B cannot read its settings, or what it finds is no key.
    """
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
    found: list[BaseException | None] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(server, timeout=PATIENCE).close()
            found.append(None)
        except Exception as error:
            found.append(error)

    # The limit of urlopen does not hold for the look-up of a name, and holds for each address of several.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE + 1)
    error = found[0] if found else TimeoutError("timed out")
    # An error in HTTP is an answer; and W&B has certificates of its own.
    answered = isinstance(error, urllib.error.HTTPError) or isinstance(getattr(error, "reason", None), ssl.SSLError)
    if error is not None and not answered:
        raise error


class WandbRun:
    """An open W&B run.

    Args:
        run: as returned by ``wandb.init``.
    """

    def __init__(self, run: Any) -> None:
        self._run = run
        self._defined: set[str] = set()
        self._artifacts: dict[str, str] = {}

    def log(self, fit: str, step: int, values: Mapping[str, Any]) -> None:
        """Log values at a step of a fit; every fit has an x-axis of its own."""
        axis = names.step_of(fit)
        for name in values.keys() - self._defined:
            self._run.define_metric(axis, hidden=True)
            self._run.define_metric(name, step_metric=axis)
            self._defined.add(name)
        self._run.log({**values, axis: step})

    def image(self, key: str, image: Any, caption: str = "", fit: str = "", step: int = 0) -> None:
        """Show an image (a file or an array (H, W, C)), at a step of a fit if there is one."""
        import wandb

        shown = wandb.Image(str(image) if isinstance(image, Path) else image, caption=caption)
        if fit:
            self.log(fit, step, {key: shown})
        else:
            self._run.log({key: shown})

    def summary(self, values: Mapping[str, Any]) -> None:
        """Record final numbers."""
        self._run.summary.update(dict(values))

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Show a table."""
        import wandb

        self._run.log({key: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def artifact(
        self,
        name: str,
        type: str,
        folder: Path | None,
        metadata: Mapping[str, Any],
        parents: Sequence[str] = (),
        made: bool = True,
    ) -> None:
        """Log a finished artifact, for the lineage pool → images → labels → students.

        What this run made becomes its output, what it found in the store its input; so W&B's graph leads from the run that
        trained a pool to the runs that used it. Steps within one run have no edges there: they stand in the metadata under
        ``parents``. The same work is the same version, because ``artifact.json`` and an alias hold its fingerprint.

        Args:
            type: ``teachers``, ``synset`` or ``labels``.
            folder: of the files to upload, or None to leave them in the store and hand over the facts alone.
            metadata: facts, among them ``fingerprint``; long ones are left out.
            parents: names of the artifacts it was made from, handed over before.
            made: by this run, as opposed to found in the store.
        """
        import wandb

        name, *parents = (re.sub(r"[^\w.-]", "-", one) for one in (name, *parents))
        self._artifacts[name] = fingerprint = str(metadata["fingerprint"])
        lineage = {parent: self._artifacts[parent] for parent in parents}
        facts = {key: fact for key, fact in metadata.items() if len(json.dumps(fact, default=str)) <= LONG_FACT}
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
    """Open the run and log in one line where it goes; None if W&B is disabled.

    Args:
        make: makes Lightning's WandbLogger, with further arguments of ``wandb.init``.
        offline: as in :func:`choose_mode`.

    Raises:
        UserError: the run cannot be opened, or online is configured and the server refuses.
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
