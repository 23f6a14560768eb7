"""The processes of one run, which torchrun or srun started: ranks, waiting, and sharing what the first process decided.

All functions are trivial in a single process, and load torch in none.
"""

from __future__ import annotations

import sys
from typing import Any, TypeVar

T = TypeVar("T")

waiting: Any = None  # the process group in which processes wait for each other's work; None: torch's default group


def _group() -> Any:
    """``torch.distributed`` if a process group is open, else None."""
    group: Any = sys.modules.get("torch.distributed")
    return group if group is not None and group.is_available() and group.is_initialized() else None


def rank() -> int:
    """Return the index of this process among those of the run, from 0."""
    return group.get_rank() if (group := _group()) else 0


def world_size() -> int:
    """Return the number of processes of the run."""
    return group.get_world_size() if (group := _group()) else 1


def is_leader() -> bool:
    """Whether this process writes the run's files, logs and messages."""
    return rank() == 0


def barrier() -> None:
    """Wait for all processes. On the CPU, so that no GPU spins while one process does a long piece of work."""
    if group := _group():
        group.all_reduce(sys.modules["torch"].zeros(1), group=waiting)


def broadcast(value: T) -> T:
    """Return the leader's ``value`` in every process; the others' values are ignored."""
    group = _group()
    if not group:
        return value
    values = [value]
    cpu = sys.modules["torch"].device("cpu")
    group.broadcast_object_list(values, src=0, group=waiting, device=cpu)
    return values[0]
