"""Freed memory is kept, by what the system counts."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from teddy.runtime.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
count = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(10_000_000)
before = count()
for _ in range(5):
    np.ones(10_000_000)
print(count() - before)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc is told, and this machine has another C library"
)
def test_large_arrays_find_the_memory_of_those_before_them():
    faults = {}
    for word in ("keep", "leave"):
        done = subprocess.run([sys.executable, "-c", PROGRAM, word], capture_output=True, text=True, check=True)
        faults[word] = int(done.stdout)
    assert faults["keep"] < 50 < 5 * 40 < faults["leave"], faults  # 80 MB are at least 40 huge pages


def test_nothing_is_done_where_it_is_not_known(monkeypatch):
    from teddy.runtime.allocator import keep_freed_memory

    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
