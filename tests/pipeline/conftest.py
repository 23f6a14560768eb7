"""A workspace in which commands are typed: a working directory, a store, and whole runs of a tiny experiment."""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHORT

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
PRELOAD = [
    "torch._dynamo",
    "teddy.cli",
    "teddy.pipeline",
    "teddy.methods.teddy",
    "teddy.pool.prior",
    "teddy.report.callback",
    "matplotlib.pyplot",
    "wandb",
    "tests.pipeline.faults",
    "tests.pipeline.composed",
]
TINY = (
    "+experiment=quickstart",
    *SHORT,
    "method=[teddy,random]",
    "synthesis.ipc=1",
    "synthesis.iterations=6",
    "synthesis.lr=0.05",
    "synthesis.teachers_per_block=2",
    "labels=stored",
    "labels.temperature=20",
)
"""The quick start on the embedded data, cut down to a second: two members of a three-epoch trajectory, one image per class."""
NO_REPORT = "stages=[pool,synthesis,labels,evaluation]"


@dataclass(frozen=True)
class Done:
    """A command that has ended, and what it left."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The run's results log."""
        return [json.loads(line) for line in (self.folder / "results.jsonl").read_text().splitlines()]

    @property
    def sentence(self) -> str:
        """The one line with which a failed command ends, after what it showed of its progress."""
        lines = [line for line in self.err.splitlines() if line.startswith("teddy: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]

    def curves(self, prefix: str) -> dict[str, list[tuple[int, float]]]:
        """Logged values as (step, value), by the names that begin with ``prefix``."""
        with (self.folder / "curves" / "metrics.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        names = [name for name in rows[0] if name.startswith(prefix)]
        return {name: [(int(row["step"]), float(row[name])) for row in rows if row[name]] for name in names}


@dataclass
class Command:
    """A command that is running."""

    process: Any
    folder: Path
    out: Path
    err: Path

    def wait(self) -> Done:
        """Wait for its end."""
        self.process.join()
        return Done(self.process.exitcode, self.out.read_text(), self.err.read_text(), self.folder)

    def stop_when(self, appears: Callable[[], bool], how: signal.Signals = signal.SIGKILL) -> Done:
        """Send a signal as soon as something is there; the command must still be running then."""
        limit = time.monotonic() + 120
        while not appears():
            assert self.process.is_alive(), f"ended too early:\n{self.err.read_text()}"
            assert time.monotonic() < limit, "what to wait for does not appear"
            time.sleep(0.002)
        os.kill(self.process.pid, how)
        return self.wait()


@dataclass
class Workspace:
    """A working directory and a store."""

    folder: Path
    start_process: Callable[..., Any]
    count: int = field(default=0)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def start(
        self,
        *arguments: str,
        base: tuple[str, ...] = (*TINY, NO_REPORT),
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Command:
        """Type a command; the run's records go to ``run0``, ``run1``, …

        Args:
            base: first arguments: the tiny experiment without its report, unless later ones say otherwise.
            settings: module variables to change beforehand, such as ``{"teddy.evaluation.stage.RESUME_SECONDS": 0.0}``; the
                time of the work is not measured before it begins.
        """
        self.count += 1
        name = f"run{self.count - 1}"
        out, err = self.folder / f"{name}.out", self.folder / f"{name}.err"
        process = self.start_process(
            ARGV=[*base, *arguments, f"hydra.run.dir={name}", f"hydra.sweep.dir={name}"],
            FOLDER=str(self.folder),
            ENVIRONMENT={"TEDDY_STORE": str(self.store), **(environment or {})},
            OUT=str(out),
            ERR=str(err),
            SETTINGS={"teddy.preview.MEASURE": False, **(settings or {})},
        )
        return Command(process, self.folder / name, out, err)

    def run(self, *arguments: str, code: int = 0, **options: Any) -> Done:
        """Type a command and wait for its end, which must have this exit code."""
        done = self.start(*arguments, **options).wait()
        assert done.code == code, f"exit code {done.code}\n{done.out}\n{done.err}"
        return done

    def manifests(self) -> dict[Path, int]:
        """Finished work, as ``kind/fingerprint/manifest.json``, and when it was finished (ns)."""
        return {path.relative_to(self.store): path.stat().st_mtime_ns for path in self.store.glob("*/*/manifest.json")}

    def kinds(self) -> dict[str, int]:
        """How much finished work of each kind there is."""
        found = [path.parts[0] for path in self.manifests()]
        return {kind: found.count(kind) for kind in sorted(set(found))}

    def results(self) -> dict[str, Any]:
        """What the store holds, less the times and memory that no two runs share; by ``kind/fingerprint``."""
        found = {}
        for path in self.manifests():
            manifest = json.loads((self.store / path).read_text())
            facts = manifest["facts"]
            del manifest["digest"]  # of the times, too
            for one in (facts, *facts.get("members", [])):
                for key in ("seconds", "peak_memory_mb"):
                    one.pop(key, None)
            files = {name: (self.store / path.parent / name).read_bytes() for name in manifest["files"]}
            found[path.parent.as_posix()] = (manifest, files)
        return found


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """The arguments of the tiny experiment, for a command line that a test types itself."""
    return TINY


@contextlib.contextmanager
def process_starter() -> Iterator[Callable[..., Any]]:
    """Start ``typed.py`` with the given globals in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{SRC}{os.pathsep}{ROOT}")
        patch.setenv("OMP_NUM_THREADS", "1")
        started = []

        def start(**variables: Any) -> Any:
            script = str(Path(__file__).with_name("typed.py"))
            process = context.Process(target=runpy.run_path, args=(script, variables))
            process.start()
            started.append(process)
            return process

        yield start
    for process in started:
        process.kill()
        process.join()


@pytest.fixture(scope="session")
def start_process() -> Iterator[Callable[..., Any]]:
    """Start ``typed.py`` with the given globals in a process of its own."""
    with process_starter() as start:
        yield start


@pytest.fixture
def workspace(tmp_path: Path, start_process: Callable[..., Any]) -> Workspace:
    """An empty workspace."""
    return Workspace(tmp_path, start_process)


@dataclass(frozen=True)
class Finished:
    """The tiny experiment, run once by the real command line."""

    workspace: Workspace
    done: Done

    def copy(self, folder: Path, without: tuple[str, ...] = ()) -> Workspace:
        """A workspace with what the run left in its store, less some kinds of work."""
        shutil.copytree(self.workspace.store, folder / "store")
        for kind in without:
            shutil.rmtree(folder / "store" / kind)
        return Workspace(folder, self.workspace.start_process)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, start_process: Callable[..., Any]) -> Finished:
    """``python -m teddy`` with the tiny experiment; tests may read it, and change copies of it."""
    folder = tmp_path_factory.mktemp("finished")
    command = [sys.executable, "-m", "teddy", *TINY, "hydra.run.dir=run"]
    environment = {**os.environ, "TEDDY_STORE": str(folder / "store"), "PYTHONPATH": str(SRC)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return Finished(Workspace(folder, start_process), Done(0, done.stdout, done.stderr, folder / "run"))
