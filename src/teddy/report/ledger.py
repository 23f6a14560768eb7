"""The results ledger: one JSON line for every student that was trained, never rewritten."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from teddy.config.errors import BadInput


@dataclass(frozen=True)
class Result:
    """One student, trained once from scratch on a distilled (or baseline) set and tested once after its last
    epoch.

    Attributes:
        method: where the images come from: ``teddy``, ``random`` (real images), ``converged`` (one converged
            teacher) ...
        pool: the teachers behind images and labels as text, e.g. ``prior 2-18/2 (9)``.
        labels: ``online``, ``stored`` or ``hard``.
        protocol: how the student was trained: ``paper``, ``modern``, ``hard_label``.
        top1: accuracy on the real test set in percent.
        seconds: time of the student's training and test.
        peak_memory_mb: peak memory in MB (10^6 bytes): of the GPU, or of the whole process on a CPU.
        fingerprints: the artifacts it came from, e.g. ``{"pool": ..., "images": ..., "student": ...}``.
        cost: of what came before the student: ``pool_seconds`` (training that the pool needs, without epochs beyond its
            last member), ``synthesis_seconds``, ``synthesis_peak_memory_mb``, ``labels_seconds``, ``labels_mb``; a name
            that is absent was not measured.
        divergence: KL divergence in nats from the student's predictions to each teacher's on held-out real images, by the
            teacher's name such as ``epoch 5``; empty where it was not measured (Fig. 2c).
    """

    dataset: str
    ipc: int
    method: str
    pool: str
    labels: str
    protocol: str
    student: str
    seed: int
    top1: float
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    fingerprints: dict[str, str] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    divergence: dict[str, float] = field(default_factory=dict)


class Ledger:
    """Results in a file ``results.jsonl`` that several runs may append to at the same time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, result: Result) -> None:
        """Adds one line and waits until it is on the disk."""
        line = json.dumps(dataclasses.asdict(result), sort_keys=True) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            _cut_half_line(stream)
            stream.write(line.encode())
            stream.flush()
            os.fsync(stream.fileno())

    @property
    def rows(self) -> list[Result]:
        """All results, oldest first. Half a line at the end, which a killed run may leave, does not count.

        Raises:
            BadInput: a whole line is damaged.
        """
        if not self.path.is_file():
            return []
        whole, _, _ = self.path.read_bytes().rpartition(b"\n")
        lines = whole.split(b"\n") if whole else []
        return [self._parse(line, number) for number, line in enumerate(lines, start=1)]

    def _parse(self, line: bytes, number: int) -> Result:
        try:
            return Result(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise BadInput(
                f"{self.path}, line {number}, is not a result ({error}); delete that line and run again."
            ) from error


def _cut_half_line(stream: Any) -> None:
    stream.seek(0)
    content = stream.read()
    end = content.rfind(b"\n") + 1
    if end != len(content):
        stream.truncate(end)
    stream.seek(0, os.SEEK_END)
