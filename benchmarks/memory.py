"""Peak memory of a synthesis with five teachers beside the same with one, each in a process of its own.

Both read the same pool of five, so what differs is how many of them a block sees.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.fits import quiet
from benchmarks.setting import Setting, made_up_pool, made_up_spec
from benchmarks.startup import measured_apart
from benchmarks.synthesis import eq7, inputs_of
from benchmarks.timing import Row, compare
from teddy.runtime.device import DeviceConfig
from teddy.runtime.loggers import RunLog
from teddy.runtime.memory import PeakMemory
from teddy.synthesis.method import Run

NETWORK, SIZE, POOL, STEPS = "resnet18_cifar", 32, 5, 3
LIMIT = 1.05


def rows(setting: Setting) -> Iterator[Row]:
    batch = 50 if setting.quick else 100
    made_up_pool(setting.folder, NETWORK, made_up_spec(SIZE), POOL)
    one, five = (peak(setting, teachers, batch) for teachers in (1, POOL))
    what = f"peak memory of synthesis, {NETWORK}, {SIZE} px, batch {batch}: n={POOL} and n=1 (MB)"
    yield compare(what, five, one, LIMIT)


def peak(setting: Setting, teachers: int, batch: int) -> float:
    """MB of a child process: resident on a CPU, libraries included; of tensors on a GPU."""
    task = {
        "accelerator": setting.device_config.accelerator,
        "precision": setting.device_config.precision,
        "pool": str(setting.folder),
        "folder": str(setting.scratch(f"memory-{teachers}")),
        "teachers": teachers,
        "batch": batch,
    }
    return measured_apart("benchmarks.memory", task)


def child(task: dict[str, Any]) -> float:
    """The synthesis in the child process; its peak in MB."""
    device_config, folder = DeviceConfig(task["accelerator"], task["precision"]), Path(task["folder"])
    pool = made_up_pool(Path(task["pool"]), NETWORK, made_up_spec(SIZE), POOL)
    method = eq7(task["batch"], task["teachers"], STEPS)
    # Counts from here on: a child's own count (getrusage) begins with the memory of the process that started it.
    memory = PeakMemory(device_config.accelerator)
    with quiet():
        method.synthesize(inputs_of(pool), Run(folder, device_config, 0, RunLog(folder)))
    return memory.megabytes()


if __name__ == "__main__":
    print(child(json.loads(sys.argv[1])))
