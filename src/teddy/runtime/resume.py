"""Training state on disk, from which a killed run resumes: safetensors for numbers, JSON for the rest, no pickle."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from teddy.artifacts.processes import is_leader
from teddy.artifacts.store import atomic_write
from teddy.config.errors import UserError

_log = logging.getLogger("teddy")


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], notes: Any = None) -> None:
    """Write tensors and JSON notes into one safetensors file, atomically."""
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    atomic_write(path, lambda partial: save_file(flat, partial, metadata={"notes": json.dumps(notes)}))


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], Any]:
    """Read what :func:`save_tensors` wrote; UserError if the file is missing, truncated or no safetensors file."""
    try:
        with safe_open(path, framework="pt") as stream:
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a mapping
            return tensors, json.loads((stream.metadata() or {}).get("notes", "null"))
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(
            f"{path} is not a whole safetensors file ({error}); delete it and run the command again."
        ) from error


def save_point(path: Path, tensors: Mapping[str, torch.Tensor], notes: Any) -> None:
    """Write tensors and notes that no manifest covers, with a checksum of both, for this path alone."""
    save_tensors(path, tensors, {"notes": notes, "sha256": _digest(path, tensors, notes)})


def load_point(path: Path) -> tuple[dict[str, torch.Tensor], Any] | None:
    """Read what :func:`save_point` wrote; None without a file. A damaged one is removed, which is said, and None too."""
    if not path.is_file():
        return None
    try:
        tensors, notes = load_tensors(path)
        if isinstance(notes, dict) and notes.get("sha256") == _digest(path, tensors, notes.get("notes")):
            return tensors, notes["notes"]
        why = f"{path} does not hold what was written there"
    except UserError as error:
        why = str(error).partition(";")[0]
    _log.warning(f"{why}; it is removed, and what it held is computed again.")
    path.unlink(missing_ok=True)
    return None


def _digest(path: Path, tensors: Mapping[str, torch.Tensor], notes: Any) -> str:
    place = "/".join(path.parts[-3:])  # the artifact's fingerprint is among them: a file of another one does not fit
    digest = hashlib.sha256(json.dumps([place, notes]).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the optimizer's per-parameter state as ``optimizer.<parameter>.<name>`` tensors."""
    return {
        f"optimizer.{index}.{name}": torch.as_tensor(value)
        for index, slot in optimizer.state_dict()["state"].items()
        for name, value in slot.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Restore the state that :func:`optimizer_tensors` returned; learning rates belong to the schedule."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    optimizer.state.clear()
    for key, tensor in tensors.items():
        if not key.startswith("optimizer."):
            continue
        _, index, name = key.split(".", 2)
        parameter, value = parameters[int(index)], tensor.clone()
        if tensor.dim() and tensor.shape == parameter.shape:
            # A strided copy keeps the parameter's memory format, so that a resumed step rounds like an uninterrupted one.
            value = torch.empty_like(parameter).copy_(tensor)
        optimizer.state[parameter][name] = value


class ResumePoint(L.Callback):
    """Write the state of ``module.network`` and its optimizer after every ``every`` epochs, at most once in ``seconds``.

    Expects a module with the attributes ``network`` and ``first_epoch`` (epochs done before this process began). Of several
    processes, the first writes and all restore. JSON notes are kept with the tensors.
    """

    def __init__(self, path: Path, seconds: float = 0.0, notes: Callable[[], Any] = dict, every: int = 1) -> None:
        self.path, self.seconds, self.notes, self.every = path, seconds, notes, every
        self._written = time.monotonic()
        self._tensors: dict[str, torch.Tensor] = {}

    def restore(self, network: nn.Module) -> tuple[int, Any]:
        """Load the last point into ``network`` and return the epochs done and the notes; (0, None) without one."""
        point = load_point(self.path)
        if point is None:
            return 0, None
        self._tensors, notes = point
        weights = {name: value for name, value in self._tensors.items() if name.startswith("network.")}
        network.load_state_dict({name.removeprefix("network."): value for name, value in weights.items()})
        return notes["epochs"], notes["extra"]

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self._tensors:  # only now are the optimizer's parameters on their device
            restore_optimizer(trainer.optimizers[0], self._tensors)
            self._tensors = {}

    def on_train_epoch_end(self, trainer: L.Trainer, module: Any) -> None:
        early = time.monotonic() - self._written < self.seconds
        if not is_leader() or early or (trainer.current_epoch + 1) % self.every:
            return
        tensors = {f"network.{name}": tensor for name, tensor in module.network.state_dict().items()}
        notes = {"epochs": module.first_epoch + trainer.current_epoch + 1, "extra": self.notes()}
        save_point(self.path, tensors | optimizer_tensors(trainer.optimizers[0]), notes)
        self._written = time.monotonic()
