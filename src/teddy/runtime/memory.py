"""Memory: that of the machine, the peak of a piece of work, what is free, what a graph needs, and what malloc does with it."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)


def machine_memory() -> int:
    """The memory of this machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def keep_freed_memory() -> None:
    """Let malloc keep freed memory for the tensors that follow, instead of returning it to the system.

    By default glibc maps each tensor above 32 MB anew, and the system clears its pages one by one: up to a third of the time
    of a training on a CPU. What is kept adds about a fifth to the peak. Other C libraries are left as they are.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # never


def return_freed_memory() -> None:
    """Return what malloc has kept to the system, so that it does not count as used."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


class PeakMemory:
    """The peak since its creation, in MB (10^6 bytes): of tensors on a GPU, else of the process's resident memory.

    Resident memory includes libraries and everything that the process already holds. Only Linux can reset the count; elsewhere
    the peak is that of the process's whole life.
    """

    def __init__(self, accelerator: str) -> None:
        self._cuda, self._reset = accelerator == "cuda", False
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
            return
        return_freed_memory()
        try:
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak resident set size
            self._reset = True
        except OSError:
            pass

    def megabytes(self) -> float:
        if self._cuda:
            found = torch.cuda.max_memory_allocated()
        elif self._reset:
            found = _proc(Path("/proc/self/status"), "VmHWM")
        else:
            unit = 1 if sys.platform == "darwin" else 1024
            found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return round(found / 1e6, 1)


def free_bytes(accelerator: str) -> int | None:
    """Return how much memory can still be had, of the current GPU or the machine; None where it cannot be told."""
    if accelerator == "cuda":
        return torch.cuda.mem_get_info()[0]
    return_freed_memory()
    facts = Path("/proc/meminfo")
    return _proc(facts, "MemAvailable") if accelerator == "cpu" and facts.is_file() else None


def _proc(facts: Path, name: str) -> int:
    """A number of a file in /proc, which is written in kB, in bytes."""
    return 1024 * int(dict(line.split(":", 1) for line in facts.read_text().splitlines())[name].split()[0])


def graph_bytes(compute: Callable[[], object]) -> int:
    """Return how much autograd keeps for the backward pass of what ``compute`` does; on the meta device it costs no time."""
    # By storage, which several operations may keep; held, so that none takes its place.
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        compute()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
