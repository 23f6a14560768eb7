"""The results log ``results.jsonl``: one JSON line for every student that was trained, never rewritten."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from teddy.config.errors import UserError


@dataclass(frozen=True)
class Result:
    """One student, trained from scratch on a synthetic set (or on real images) and tested once after its last epoch."""

    dataset: str
    ipc: int
    method: str
    pool: str  # description of the teachers, e.g. "prior 2-18/2 (9)"
    labels: str  # online, stored, hard or another kind
    protocol: str
    student: str
    seed: int
    top1: float  # accuracy on the real test set in percent, or whatever ``measure`` says
    title: str = ""  # the method's name in prose and legends; ``method`` by default
    baseline: bool = False  # random real images, which all other methods are measured against
    seconds: float = 0.0
    peak_memory_mb: float = 0.0  # 10^6 bytes, of the GPU, or of the whole process on a CPU
    measure: str = "top1"  # or of detectors map50, the mean average precision at an IoU of 0.5
    macro_f1: float | None = None  # mean of the classes' F1 scores in percent; None where it was not measured
    coco_map: float | None = None  # of detectors, the mean average precision over IoUs from 0.5 to 0.95, in percent
    classes: int = 0  # how many classes the student knows, in continual learning; 0: all
    fingerprints: dict[str, str] = field(default_factory=dict)  # of the artifacts it depends on, by kind
    cost: dict[str, float] = field(default_factory=dict)
    """Spent before the student: ``pool_seconds``, ``synthesis_seconds``, ``synthesis_peak_memory_mb``, ``labels_seconds``,
    ``labels_mb``; a quantity that was not measured is absent."""
    divergence: dict[str, float] = field(default_factory=dict)
    """KL divergence in nats from its predictions to each teacher's on held-out real images, by teacher (Fig. 2c)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", self.title or self.method)


def append_result(path: Path, result: Result) -> None:
    """Add one line, after removing an incomplete last one, and return when it is on disk; other processes may do the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        stream.truncate(stream.read().rfind(b"\n") + 1)
        stream.write(json.dumps(dataclasses.asdict(result), sort_keys=True).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_results(path: Path) -> list[Result]:
    """All results, oldest first, without the incomplete last line that a killed run may leave; none if there is no file."""
    results = []
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            results.append(Result(**json.loads(line)))
        except (ValueError, TypeError) as error:
            problem = f"{path}, line {number}, is not a result ({error})"
            raise UserError(f"{problem}; delete that line and run again.") from error
    return results
