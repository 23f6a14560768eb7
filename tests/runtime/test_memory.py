"""Peak memory against a buffer of known size; the size of a graph; free memory; memory of freed tensors."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from teddy.models.networks import build_network
from teddy.models.stateless import StatelessNetwork
from teddy.runtime.memory import free_bytes, graph_bytes


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can reset the peak")
def test_the_peak_is_that_of_the_work_and_not_of_what_came_before():
    program = textwrap.dedent(
        """
        import torch
        from teddy.runtime.memory import PeakMemory, keep_freed_memory
        keep_freed_memory()
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


def test_the_estimate_of_a_graph_is_what_autograd_keeps() -> None:
    """Without running anything, on the meta device; a tensor that several operations keep is counted once."""
    stateless = StatelessNetwork(build_network("convnet1_w4_in", 3, 1, 8))
    images = torch.randn(6, 1, 8, 8, requires_grad=True)

    def forward(network: StatelessNetwork, images: torch.Tensor) -> torch.Tensor:
        return network(network.initial.requires_grad_(), images).sum()

    here = graph_bytes(lambda: forward(stateless, images))
    meta = StatelessNetwork(build_network("convnet1_w4_in", 3, 1, 8).to("meta"))
    there = graph_bytes(lambda: forward(meta, torch.empty(6, 1, 8, 8, device="meta", requires_grad=True)))
    assert there == pytest.approx(here, rel=0.05)
    activations = 4 * 6 * (64 + 3 * 4 * 64)  # images, and what the convolution, the norm and the pooling take
    assert 0.8 * activations < here < 1.6 * activations


def test_free_memory_is_a_part_of_the_machines() -> None:
    free = free_bytes("cpu")
    if not Path("/proc/meminfo").is_file():
        assert free is None
        return
    assert 0 < free < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert free_bytes("mps") is None


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt")
@pytest.mark.parametrize("kept", [True, False])
def test_freed_memory_is_kept_until_it_is_returned(kept: bool) -> None:
    program = textwrap.dedent(
        f"""
        import torch
        from pathlib import Path
        from teddy.runtime.memory import keep_freed_memory, return_freed_memory

        def resident():
            status = Path("/proc/self/status").read_text()
            return 1024 * int(status.partition("VmRSS:")[2].split()[0])

        if {kept}:
            keep_freed_memory()
        torch.ones(200_000_000, dtype=torch.uint8)
        held = resident()
        return_freed_memory()
        print(held - resident())
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (int(done.stdout) > 190_000_000) == kept
