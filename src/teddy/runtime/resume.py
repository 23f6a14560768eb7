"""Training state on disk, so that a killed run goes on where it was: safetensors for numbers, JSON for the rest, no pickle."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from teddy.artifacts.store import atomic_write
from teddy.config.errors import BadInput


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], notes: Any = None) -> None:
    """Writes tensors and JSON notes into one safetensors file, atomically."""
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    atomic_write(path, lambda partial: save_file(flat, partial, metadata={"notes": json.dumps(notes)}))


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], Any]:
    """Reads what :func:`save_tensors` wrote.

    Raises:
        BadInput: the file is missing, truncated or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a mapping
            return tensors, json.loads((stream.metadata() or {}).get("notes", "null"))
    except (OSError, SafetensorError, ValueError) as error:
        raise BadInput(
            f"{path} is not a whole safetensors file ({error}); delete it and run the command again."
        ) from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's per-parameter state as ``optimizer.<parameter>.<name>`` tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{name}": torch.as_tensor(value)
        for index, slot in state.items()
        for name, value in slot.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Puts back what :func:`optimizer_tensors` took; learning rates are the schedule's business."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    optimizer.state.clear()
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            parameter = parameters[int(index)]
            on_device = tensor.dim() > 0 or tensor.device != torch.device("cpu")
            # A strided copy keeps the parameter's memory format, so that a resumed step rounds like an uninterrupted one.
            value = (
                torch.empty_like(parameter).copy_(tensor)
                if on_device and tensor.shape == parameter.shape
                else tensor.clone()
            )
            optimizer.state[parameter][name] = value


class TrainingPoint:
    """A network and its optimizer after a whole epoch, in one file.

    Args:
        path: the safetensors file; removed by nobody but its stage.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tensors: dict[str, torch.Tensor] = {}

    def restore(self, network: nn.Module) -> tuple[int, Any]:
        """Loads the last point into ``network`` and returns the epochs done and the notes; (0, None) without one."""
        if not self.path.is_file():
            return 0, None
        self.tensors, notes = load_tensors(self.path)
        weights = {
            key.removeprefix("network."): value for key, value in self.tensors.items() if key.startswith("network.")
        }
        network.load_state_dict(weights)
        return notes["epochs"], notes["extra"]

    def restore_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Puts back the optimizer's state that :meth:`restore` found, once its parameters are on their device."""
        if self.tensors:
            restore_optimizer(optimizer, self.tensors)
            self.tensors = {}

    def save(self, network: nn.Module, optimizer: torch.optim.Optimizer, epochs: int, extra: Any = None) -> None:
        """Writes a point after ``epochs`` epochs, with JSON notes beside the tensors."""
        tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
        save_tensors(self.path, tensors | optimizer_tensors(optimizer), {"epochs": epochs, "extra": extra})


class ResumePoint(TrainingPoint, L.Callback):
    """Writes the state of ``module.network`` and its optimizer after an epoch, at most once in ``seconds``.

    Expects a module with the attributes ``network`` and ``first_epoch`` (epochs done before this process began).

    Args:
        path: the safetensors file; removed by nobody but its stage.
        seconds: shortest time between two points; 0 writes after each epoch.
        notes: called for JSON notes to keep beside the tensors.
    """

    def __init__(self, path: Path, seconds: float = 0.0, notes: Callable[[], Any] = dict) -> None:
        super().__init__(path)
        self.seconds = seconds
        self.notes = notes
        self._written = time.monotonic()

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Puts the optimizer's state back."""
        self.restore_optimizer(trainer.optimizers[0])

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Writes a point if it is time."""
        if time.monotonic() - self._written < self.seconds:
            return
        network: nn.Module = module.network  # type: ignore[assignment]
        epochs = int(module.first_epoch) + trainer.current_epoch + 1  # type: ignore[arg-type]
        self.save(network, trainer.optimizers[0], epochs, self.notes())
        self._written = time.monotonic()
