"""Which arithmetic a run uses, resolved once so that it can stand in fingerprints and records."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch

from teddy.config.errors import BadInput


@dataclass(frozen=True)
class Compute:
    """The device and the precision of a run.

    Attributes:
        accelerator: Lightning's word, "cpu", "cuda" or "mps".
        precision: "float32" or "bfloat16" (autocast; parameters, pixels and statistics stay float32).
        devices: number of processes that synthesis blocks are dealt to.
        workers: processes that read image files.
    """

    accelerator: str
    precision: str
    devices: int = 1
    workers: int = 0

    @property
    def device(self) -> torch.device:
        """Where tensors of a single-process stage live."""
        return torch.device(self.accelerator)

    @property
    def lightning_precision(self) -> str:
        """The Trainer's word for ``precision``."""
        return {"float32": "32-true", "bfloat16": "bf16-mixed"}[self.precision]

    @property
    def frozen_weights(self) -> torch.dtype:
        """The type in which autocast would use the weights of a frozen network, so that they can be kept in it."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The autocast context for work outside a Trainer."""
        return torch.autocast(self.accelerator, torch.bfloat16, enabled=self.precision == "bfloat16")


def resolve_compute(accelerator: str, precision: str, devices: int = 1, workers: int = 0) -> Compute:
    """Turns "auto" into what this machine has.

    Raises:
        BadInput: the machine lacks the accelerator that is asked for.
    """
    found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    wanted = {"auto": found, "gpu": found}.get(accelerator, accelerator)
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(wanted, False) or (accelerator == "gpu" and wanted == "cpu"):
        raise BadInput(
            f"trainer.accelerator={accelerator} is not available on this machine; set trainer.accelerator=auto."
        )
    if wanted == "cuda" and devices > torch.cuda.device_count():
        raise BadInput(
            f"trainer.devices={devices} asks for more than the {torch.cuda.device_count()} GPUs of this machine."
        )
    if precision == "auto":
        precision = "bfloat16" if _has_fast_bfloat16(wanted) else "float32"
    return Compute(wanted, precision, devices, workers)


def _has_fast_bfloat16(accelerator: str) -> bool:
    if accelerator == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator == "cpu":
        # Without these instructions bfloat16 is emulated and slower than float32.
        flags: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(flags.get("avx512_bf16") or flags.get("amx_bf16"))
    return False
