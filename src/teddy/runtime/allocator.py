"""What the C library does with memory that a step has freed."""

from __future__ import annotations

import contextlib
import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LARGE = (1 << 30, 1 << 25)  # some versions allow no more than the second


def keep_freed_memory() -> bool:
    """Has glibc keep freed memory for the next step, and says whether it does.

    Left to itself, glibc hands large arrays back to the system as soon as they are freed, so that every step on a CPU asks for
    them anew and has each page filled with zeros: up to a tenth of a step at 224 pixels. Other C libraries are left alone.
    """
    if sys.platform != "linux":
        return False
    with contextlib.suppress(AttributeError, OSError):  # a C library without mallopt
        library = ctypes.CDLL(None)
        keeps = any(library.mallopt(_MMAP_THRESHOLD, size) for size in _LARGE)
        return bool(library.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)) and keeps
    return False
