"""Peak memory, against a buffer of known size."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can reset the peak")
def test_the_peak_is_that_of_the_work_and_not_of_what_came_before():
    program = textwrap.dedent(
        """
        import torch
        from teddy.runtime.memory import PeakMemory
        before = torch.ones(500_000_000, dtype=torch.uint8)
        del before
        idle = PeakMemory("cpu").megabytes()
        memory = PeakMemory("cpu")
        work = torch.ones(200_000_000, dtype=torch.uint8)
        del work
        print(memory.megabytes() - idle)
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(200, rel=0.1)
