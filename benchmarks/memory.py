"""Peak memory of a synthesis with five teachers beside the same with one, each in a process of its own.

Both hold the same pool of five, so what differs is how many of them a block sees.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks.fits import quiet
from benchmarks.setting import Setting, made_up_pool, made_up_spec
from benchmarks.startup import environment
from benchmarks.synthesis import made_up_job
from benchmarks.timing import Row, at_most, compare
from teddy.runtime.allocator import keep_freed_memory
from teddy.runtime.memory import PeakMemory
from teddy.runtime.precision import Compute
from teddy.synthesis.ranks import optimise_blocks

NETWORK, SIZE, POOL, STEPS = "resnet18_cifar", 32, 5, 3
WITHIN = at_most(1.05)


def rows(setting: Setting) -> Iterator[Row]:
    batch = 50 if setting.quick else 100
    made_up_pool(setting.folder, NETWORK, made_up_spec(SIZE), POOL)
    one, five = (peak(setting, teachers, batch) for teachers in (1, POOL))
    what = f"peak memory of synthesis, {NETWORK}, {SIZE} px, batch {batch}: n={POOL} and n=1 (MB)"
    yield compare(what, five, one, WITHIN)


def peak(setting: Setting, teachers: int, batch: int) -> float:
    """MB of a child process: resident on a CPU, libraries included; of tensors on a GPU."""
    folder = setting.scratch(f"memory-{teachers}")
    task = {"compute": asdict(setting.compute), "pool": str(setting.folder), "folder": str(folder)}
    words = json.dumps({**task, "teachers": teachers, "batch": batch})
    command = [sys.executable, "-m", "benchmarks.memory", words]
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def child(words: str) -> float:
    """What runs in the child; its peak in MB."""
    task = json.loads(words)
    compute = Compute(**task["compute"])
    pool = made_up_pool(Path(task["pool"]), NETWORK, made_up_spec(SIZE), POOL)
    job = made_up_job(pool, task["batch"], STEPS, task["teachers"])
    # Counts from here on: a child's own count (getrusage) begins with the memory of the process that started it.
    keep_freed_memory()
    memory = PeakMemory(compute.accelerator)
    with quiet():
        optimise_blocks(job, Path(task["folder"]), compute, logger=None)
    return memory.megabytes()


if __name__ == "__main__":
    print(child(sys.argv[1]))
