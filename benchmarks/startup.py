"""Help, a mistyped key and a run that is already done. The reference is the longest that each may take."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.setting import Setting
from benchmarks.timing import Row, compare

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 1.0
TINY = (
    "+experiment=quickstart",
    "name=tiny",
    "model.name=convnet2_w8",
    "method=[teddy,random]",
    "logger=csv",
    "pool.first=1",
    "pool.last=3",
    "pool.training.epochs=3",
    "synthesis.ipc=1",
    "synthesis.iterations=6",
    "synthesis.teachers_per_block=2",
    "synthesis.snapshot_every=3",
    "evaluation.protocol=paper",
    "evaluation.epochs=3",
    "evaluation.seeds=1",
)
"""The quick start, cut down to seconds."""


def rows(setting: Setting) -> Iterator[Row]:
    folder = setting.scratch("startup")
    device = f"trainer.accelerator={setting.device_config.accelerator}"
    commands = {
        "python -m teddy --help": (2.0, ["--help"], 0),
        "a key that does not exist": (2.0, ["synthesis.iteration=3"], 2),
        "a network that does not exist": (2.0, ["model.name=convnt3"], 2),
        "a run whose stages are all done": (10.0, [*TINY, device], 0),
    }
    for what, (limit, arguments, code) in commands.items():
        seconds = [command_seconds(arguments, folder, code) for _ in range(setting.rounds + 1)]
        # The first one fills the caches, or runs the stages.
        yield compare(f"{what}: the limit (s)", statistics.median(seconds[1:]), limit, LIMIT)


def command_seconds(arguments: list[str], folder: Path, code: int) -> float:
    """Wall time of a command in a process of its own, which must exit with ``code``."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "teddy", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode != code:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode} instead of {code}:\n{done.stderr}")
    return seconds


def measured_apart(module: str, task: dict[str, Any]) -> float:
    """The number that a module of benchmarks prints for a task, in a process of its own."""
    command = [sys.executable, "-m", module, json.dumps(task)]
    return float(subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=True).stdout)


def environment() -> dict[str, str]:
    """The environment of a child process that imports this checkout and has no W&B account."""
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    paths = [str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**inherited, "PYTHONPATH": os.pathsep.join(paths), "WANDB_MODE": "disabled", "TEDDY_STORE": "artifacts"}
