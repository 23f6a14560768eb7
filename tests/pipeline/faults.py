"""A run that is killed again and again at seeded moments until it ends; what it leaves must be that of a run never killed.

``scripts/faults.py`` makes the record in ``experiments/faults`` with it, and the suite does the same with a few kills.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import signal
import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tests.pipeline.conftest import Done, Workspace

SMALL = (
    "method=[teddy,idm,dm]",
    "pool.training.epochs=4",
    "synthesis.iterations=18",
    "synthesis.checkpoint_every=2",
    "synthesis.batch_size=5",
    *(f"methods.idm.{word}" for word in ("network=convnet2_w8_in", "iterations=8", "train_steps=2", "every=2")),
    *(f"methods.{name}.real_images=4" for name in ("idm", "dm")),
    *(f"methods.dm.{word}" for word in ("network=convnet2_w8_in", "iterations=12")),
    "labels.epochs=12",
    "evaluation.epochs=8",
    "evaluation.seeds=2",
)
"""All stages and three methods, of which IDM has networks in training; each stage writes many times."""
EVERY_EPOCH = {
    f"teddy.{stage}.RESUME_SECONDS": 0.0 for stage in ("pool.trajectory", "labels.stage", "evaluation.stage")
}
"""Teachers, labels and students write a point to resume from after each epoch, not only after some seconds."""
STAGE_OF = {
    "trajectory": "pool",
    "images": "synthesis",
    "bank": "synthesis",
    "labels": "labels",
    "students": "evaluation",
}
SPAN = 30
"""A kill comes at one of so many writes after the start; a whole run has some 150."""


@dataclass
class Moment:
    """Stands in for ``os.replace`` and sends this process a signal around one of its calls.

    Attributes:
        number: of the call, from 1.
        when: ``before``, ``after``, or a number of seconds later, wherever the run is by then.
        note: file for the time of the signal.
    """

    number: int
    when: str | float
    how: int
    note: str
    calls: int = 0
    replace: ClassVar[Any] = staticmethod(os.replace)

    def __call__(self, source: Any, target: Any, **options: Any) -> None:
        self.calls += 1
        if self.calls == self.number and self.when == "before":
            self.send()
        self.replace(source, target, **options)
        if self.calls == self.number and self.when == "after":
            self.send()
        elif self.calls == self.number and isinstance(self.when, float):
            timer = threading.Timer(self.when, self.send)
            timer.daemon = True
            timer.start()

    def send(self) -> None:
        Path(self.note).write_text(str(time.time()))
        os.kill(os.getpid(), self.how)


@dataclass(frozen=True)
class Round:
    """One kill.

    Attributes:
        stage, method: whose unfinished work was written to last; empty between two pieces of work.
        seconds: from the signal to the end of the process.
        equal: whether the images, labels and rows that the run had in the end are those of the run never killed.
    """

    how: str
    stage: str
    method: str
    write: int
    when: str
    code: int
    seconds: float
    equal: bool


def rows_of(done: Done) -> list[dict[str, Any]]:
    """The run's results, less the times and memory that no two runs share."""
    free = ("seconds", "peak_memory_mb", "cost")
    return [{key: value for key, value in row.items() if key not in free} for row in done.rows]


def owners(done: Done, workspace: Workspace) -> dict[str, tuple[str, str]]:
    """Stage and method by ``kind/fingerprint``, from a finished run."""
    by_images = {
        one["fingerprint"]: name for name, one in json.loads((done.folder / "run.json").read_text())["methods"].items()
    }
    found = {}
    for path in workspace.manifests():
        manifest = json.loads((workspace.store / path).read_text())
        images = manifest["content"].get("images", path.parts[1])
        found["/".join(path.parts[:2])] = STAGE_OF[path.parts[0]], by_images.get(images, "")
    return found


def unfinished(workspace: Workspace) -> str:
    """The ``kind/fingerprint`` of the work that a killed run wrote to last; empty if all is finished."""
    folders = [one for one in workspace.store.glob("*/*") if not (one / "manifest.json").exists()]
    times = {one: max((path.stat().st_mtime_ns for path in [one, *one.rglob("*")]), default=0) for one in folders}
    return "/".join(max(times, key=times.__getitem__).parts[-2:]) if times else ""


def torment(
    uncut: tuple[Done, Workspace], folder: Path, base: Sequence[str], kills: int, how: signal.Signals, seed: int
) -> list[Round]:
    """Kill runs of the same command at seeded moments, each again and again until it ends, and compare what they leave."""
    expected, rows, whose = uncut[1].results(), rows_of(uncut[0]), owners(*uncut)
    rounds: list[Round] = []
    for number in range(kills):  # more than enough runs
        workspace, part = Workspace(folder / f"{how.name}-{number}", uncut[1].start_process), []
        workspace.folder.mkdir()
        note = workspace.folder / "signal"
        while True:
            draw = random.Random(f"{seed}/{how.name}/{number}/{len(part)}")
            when = draw.choice(["before", "after", draw.uniform(0.0, 0.3), draw.uniform(0.0, 0.3)])
            moment = Moment(draw.randint(1, SPAN), when, how, str(note))
            last = len(rounds) + len(part) >= kills  # enough: let it end
            settings = EVERY_EPOCH if last else {**EVERY_EPOCH, "os.replace": moment}
            done = workspace.start(*SMALL, base=tuple(base), settings=settings).wait()
            if done.code == 0:
                break
            seconds = time.time() - float(note.read_text())
            stage, method = whose.get(unfinished(workspace), ("", ""))
            place = when if isinstance(when, str) else f"{when:.2f} s after"
            assert done.code == (-how if how == signal.SIGKILL else 128 + how), (done.code, done.err)
            if how == signal.SIGTERM:
                assert seconds < 10
                assert done.sentence == "teddy: Interrupted; run the same command again to go on."
            part.append((how.name, stage, method, moment.number, place, done.code, round(seconds, 2)))
        equal = workspace.results() == expected and rows_of(done) == rows
        rounds += [Round(*one, equal) for one in part]
        shutil.rmtree(workspace.folder)
        if len(rounds) >= kills:
            break
    return rounds


@dataclass
class Counted:
    """Stands in for the engine's ``save_point``, and adds the name of each finished block to a file."""

    file: str

    def __call__(self, path: Path, *content: Any) -> None:
        from teddy.runtime.resume import save_point

        with open(self.file, "a") as stream:
            stream.write("/".join(path.parts[-3:]) + "\n")
        save_point(path, *content)


# --- writes that fail ---

WRITING = {"os.replace": os.replace, "os.fsync": os.fsync, "os.mkdir": os.mkdir, "os.open": os.open, "io.open": io.open}
"""What a run writes files with, as it is before it is replaced; ``builtins.open`` is ``io.open``."""


@dataclass
class Refusal:
    """The first write of a process that none before it was refused, and that is then refused, as by a full disk.

    Attributes:
        folder: writes to other places are let through.
        error: number of the error.
        share: only one in so many different writes is refused, drawn by its name.
        seen: file with the names of what was refused.
    """

    folder: str
    error: int
    share: int
    seen: str
    spent: bool = False

    def check(self, call: str, path: str) -> None:
        if self.spent or not path.startswith(self.folder) or path.endswith(".log") or path == self.seen:
            return
        name = f"{call} {re.sub(r'[.]partial-[^./]*', '.partial', re.sub(r'/run[0-9]+', '/run', path[len(self.folder) :]))}"
        before = Path(self.seen).read_text().splitlines() if Path(self.seen).exists() else []
        if name in before or zlib.crc32(name.encode()) % self.share:
            return
        self.spent = True
        with WRITING["io.open"](self.seen, "a") as stream:
            stream.write(name + "\n")
        raise OSError(self.error, os.strerror(self.error), path)


@dataclass
class Watched:
    """Stands in for one of the functions in :data:`WRITING`."""

    refusal: Refusal
    call: str

    def __call__(self, first: Any, *more: Any, **options: Any) -> Any:
        target = more[0] if self.call == "os.replace" else first
        if self.call == "os.fsync":
            target = os.readlink(f"/proc/self/fd/{first}")
        mode, writes = (*more, options.get("mode", "r"))[0], True
        if self.call == "io.open":
            writes = isinstance(mode, str) and not set(mode).isdisjoint("wax+")
        elif self.call == "os.open":
            writes = bool(mode & (os.O_WRONLY | os.O_RDWR))
        elif self.call == "os.mkdir":
            writes = not os.path.isdir(first)
        if writes and isinstance(target, str | os.PathLike):
            self.refusal.check(self.call, os.path.abspath(target))
        return WRITING[self.call](first, *more, **options)


def refuse_writes(workspace: Workspace, error: int, share: int, **options: Any) -> tuple[list[str], Done]:
    """Run the tiny experiment until no write is refused; return the names of the writes that were, and the last run.

    Each run must end with one sentence and keep what is finished.
    """
    seen = workspace.folder / "refused"
    refusal = Refusal(str(workspace.folder), error, share, str(seen))
    settings = {name: Watched(refusal, name) for name in WRITING} | {"builtins.open": Watched(refusal, "io.open")}
    while True:
        kept = workspace.manifests()
        count = len(seen.read_text().splitlines()) if seen.exists() else 0
        done = workspace.start(settings=EVERY_EPOCH | settings, **options).wait()
        names = seen.read_text().splitlines() if seen.exists() else []
        assert kept.items() <= workspace.manifests().items(), names[-1]
        if len(names) == count:
            assert done.code == 0, done.err
            return names, done
        assert done.code in (1, 2), f"{names[-1]}: {done.code}\n{done.err}"
        assert done.sentence, names[-1]


# --- numbers that are not finite ---

SPOILT = """
from dataclasses import dataclass

import torch

from teddy.synthesis.optimized import OptimizedMethod


@dataclass(frozen=True, kw_only=True)
class Spoilt(OptimizedMethod):
    def optimizer(self, state):
        return torch.optim.SGD([state.pixels], lr=0.1)

    def step(self, state, iteration):
        state.pixels.grad = torch.zeros_like(state.pixels)
        bad = state.blocks[0].index == 1 and iteration == 3
        return {"calm": torch.zeros(()), "wild": torch.tensor(float("nan" if bad else 0.0))}
"""
SPOILT_YAML = (
    "# @package methods.spoilt\n_target_: spoilt.Spoilt\nipc: ${synthesis.ipc}\niterations: 6\nbatch_size: 5\n"
)
WITH_SPOILT = ("--config-dir", "own", "--allow", "spoilt")
"""Arguments with which ``method=[spoilt]`` is known: a method whose second block is not finite in its fourth iteration."""


def write_spoilt(folder: Path) -> None:
    """Put the method into a working directory."""
    (folder / "own" / "method").mkdir(parents=True)
    (folder / "own" / "method" / "spoilt.yaml").write_text(SPOILT_YAML)
    (folder / "spoilt.py").write_text(SPOILT)
