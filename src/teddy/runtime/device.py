"""The device, the arithmetic and the processes of a run, resolved once so that they can stand in fingerprints and records."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch

from teddy.config.errors import UserError

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True)
class DeviceConfig:
    """The device and the precision of a run, and what Lightning's Trainer is given."""

    accelerator: str  # "cpu", "cuda" or "mps"
    precision: str  # "32-true" or "bf16-mixed" (autocast; parameters, pixels and statistics stay float32)
    devices: int = 1  # processes on each machine, one per device
    num_nodes: int = 1
    strategy: str = "auto"
    sync_batchnorm: bool = False
    deterministic: bool = False
    workers: int = 0  # processes that read image files
    callbacks: Callable[[], list[L.Callback]] = field(default=list, compare=False)  # the user's own, fresh for each fit

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What fingerprints cover: the precision, and whether the run is deterministic."""
        return {"precision": self.precision, **({"deterministic": True} if self.deterministic else {})}

    @property
    def processes(self) -> int:
        """The number of processes of the run, one per device."""
        return self.devices * self.num_nodes

    @property
    def together(self) -> bool:
        """Whether all processes train each network under DDP.

        A deterministic run trains each in one process while the others wait: sums over several processes round differently.
        """
        return self.processes > 1 and not self.deterministic

    @property
    def device(self) -> torch.device:
        """The device of work outside a Trainer; of several GPUs, the current one of this process."""
        return torch.device(self.accelerator)

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        """The type of products under autocast, or None without it."""
        return torch.bfloat16 if self.precision == "bf16-mixed" else None

    @property
    def frozen_weights(self) -> torch.dtype:
        """The type in which autocast would use the weights of a frozen network, so that they can be kept in it."""
        return self.autocast_dtype or torch.float32

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the autocast context for work outside a Trainer."""
        return torch.autocast(self.accelerator, torch.bfloat16, enabled=self.autocast_dtype is not None)


def usable_cores() -> int:
    """The cores that this process may use at once: those it is bound to, or fewer by the time that its container is granted."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # "max 100000", or microseconds of each period
        granted, period = CPU_QUOTA.read_text().split()
        cores = min(cores, max(1, round(int(granted) / int(period))))
    return cores


def default_threads() -> int:
    """Threads of a process where none are configured: as many as there are cores for it, or what OMP_NUM_THREADS says.

    How busy the machine is makes no difference, since another number of threads gives other results by rounding.
    """
    return torch.get_num_threads() if "OMP_NUM_THREADS" in os.environ else min(usable_cores(), torch.get_num_threads())


def resolve_device(accelerator: str, precision: str, devices: int = 1, workers: int = 0, **rest: Any) -> DeviceConfig:
    """Resolve "auto" to what this machine has; UserError if it lacks the devices that are asked for.

    ``rest`` are further fields of :class:`DeviceConfig`.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    best = next(name for name, found in available.items() if found)
    wanted = best if accelerator in ("auto", "gpu") else accelerator
    if not available.get(wanted) or (accelerator, wanted) == ("gpu", "cpu"):
        raise UserError(f"trainer.accelerator={accelerator} is not available here; set trainer.accelerator=auto.")
    cpus = max(2, os.cpu_count() or 1)  # two processes on one core, to try them out
    most = {"cuda": torch.cuda.device_count(), "mps": 1, "cpu": cpus}[wanted]
    if devices > most:
        raise UserError(f"trainer.devices={devices} asks for more than {most} on this machine ({wanted}); lower it.")
    if wanted != "cuda" and rest.get("sync_batchnorm"):
        raise UserError("trainer.sync_batchnorm=true needs GPUs; set trainer.sync_batchnorm=false.")
    if precision == "auto":
        precision = "bf16-mixed" if _has_fast_bfloat16(wanted) else "32-true"
    return DeviceConfig(wanted, precision, devices, workers=workers, **rest)


def _has_fast_bfloat16(accelerator: str) -> bool:
    if accelerator == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator == "cpu":
        # Without these instructions bfloat16 is emulated and slower than float32.
        flags: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(flags.get("avx512_bf16") or flags.get("amx_bf16"))
    return False
