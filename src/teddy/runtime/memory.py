"""Peak memory of one piece of work."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Measures the peak from its creation on, in MB (10^6 bytes).

    Of the tensors on a GPU. On a CPU: of the process's resident memory, its libraries and whatever it holds already included;
    where the system cannot start the count anew (anything but Linux), since the process began.

    Args:
        accelerator: "cuda", or anything else for the CPU.
    """

    def __init__(self, accelerator: str) -> None:
        self._cuda = accelerator == "cuda"
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
            return
        try:
            _CLEAR.write_text("5")  # proc(5): resets the peak resident set size
            self._reset = True
        except OSError:
            self._reset = False

    def megabytes(self) -> float:
        """The peak so far."""
        if self._cuda:
            return round(torch.cuda.max_memory_allocated() / 1e6, 1)
        if self._reset:
            lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
            return round(int(lines["VmHWM"].split()[0]) * 1024 / 1e6, 1)
        unit = 1 if sys.platform == "darwin" else 1024
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)
