"""The store: one folder per finished artifact, found again by its fingerprint.

A folder without ``manifest.json`` is unfinished work that its stage may resume; the manifest is written last, atomically, so its
presence means done (invariants 1 and 2). A lock file keeps two runs that want the same artifact from computing it twice. Hidden
files and folders hold what a killed build needs to resume: they are no part of the artifact and are removed when it is finished.

Nothing is believed because it is there (invariant 6): an artifact is compared with its manifest when it is found, and a damaged
one is moved to ``damaged/`` and made again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teddy.artifacts import processes
from teddy.artifacts.fingerprint import canonical, fingerprint
from teddy.artifacts.integrity import CLOCK, LOCK, MANIFEST, Inspection, checksum, inspect, seal
from teddy.config.errors import Diverged, StageFailed, UserError

DAMAGED = "damaged"  # folder of a store for what was found damaged, and for files that belong to no artifact
_PARTIAL = ".partial-"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_log = logging.getLogger("teddy")


def atomic_write(path: Path, write: bytes | str | Callable[[Path], object]) -> Path:
    """Write content, or what a function writes to the path it is given; a reader sees the old file or the new, never a part."""
    handle, name = tempfile.mkstemp(prefix=_PARTIAL, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        if callable(write):
            write(partial)
        else:
            partial.write_bytes(write.encode() if isinstance(write, str) else write)
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())
        partial.chmod(0o644)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def write_json(path: Path, content: Any) -> Path:
    """Write canonical content as indented JSON, atomically."""
    return atomic_write(path, json.dumps(canonical(content), indent=1, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that this project wrote; UserError if it is not whole."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        remedy = f"delete the folder {path.parent} and run the command again."
        raise UserError(f"{path} cannot be read ({error}); {remedy}") from error


@dataclass(frozen=True)
class Artifact:
    """A finished artifact: its folder, kind and fingerprint, the facts that its build returned, and the names of its files."""

    folder: Path
    kind: str
    fingerprint: str
    facts: dict[str, Any]
    files: frozenset[str] = frozenset()
    planned: bool = False  # whether it only stands for one to come, in the plan of a run

    @classmethod
    def of(cls, folder: Path, manifest: Mapping[str, Any]) -> Artifact:
        return cls(folder, manifest["kind"], manifest["fingerprint"], manifest["facts"], frozenset(manifest["files"]))

    def file(self, name: str) -> Path:
        """Path of a file that the manifest vouches for."""
        if name not in self.files:
            raise UserError(f"{self.folder / MANIFEST} lists no file {name}; move {self.folder} away and run again.")
        return self.folder / name


@dataclass(frozen=True)
class Outlook:
    """What is known of an artifact before it is made: the plan of a run consists of these."""

    what: str  # it holds, for people, such as "convnet3, 10 epochs"
    facts: Mapping[str, Any]  # those that later stages read, nan where nobody knows them yet
    stand_in: Callable[[Path], object] = lambda folder: None  # writes files with the names and sizes of those to come
    alike: Any = None  # the same for artifacts that take the same time
    label: str = ""  # of the progress that takes the time; empty: none takes any
    units: float | None = None  # of that progress; None: as many as it says itself
    passes: float = 0.0  # images forward and back through a teacher, by which time is told where none is measured
    timed: bool = True  # whether the time is measured, by the first units of the build


class ArtifactStore:
    """Finished and unfinished artifacts under one root, as ``<root>/<kind>/<fingerprint>/``."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.made: list[Artifact] = []  # artifacts that this process computed, as opposed to found
        self.building: str | None = None  # fingerprint of what is being made, the outer one where it makes others
        self.closed: Mapping[str, str] = {}  # kinds that may not be computed now, each with the stage that computes it
        self.record: Path | None = None  # file that is to name every artifact which this process makes or finds
        self._replaced: dict[Path, Mapping[str, Any]] = {}

    def folder(self, kind: str, content: Any) -> Path:
        return self.root / kind / fingerprint(content)

    def find(self, kind: str, content: Any) -> Artifact | None:
        """Return the finished artifact that ``content`` describes, or None if there is none or it is damaged."""
        found = inspect(self.folder(kind, content))
        return Artifact.of(found.folder, found.manifest) if found.whole else None

    def unclaimed_first(self, kind: str, contents: Sequence[Any]) -> Iterator[int]:
        """Yield the index of each content; of those left, first the ones that no other run is computing.

        Several runs that want the same artifacts thus share the work, where they would wait for each other at each one. In all
        processes of a run the order is the same.
        """
        left = list(range(len(contents)))
        while left:
            free = (index for index in left if not _is_locked(self.folder(kind, contents[index])))
            chosen = processes.broadcast(next(free, left[0]) if processes.is_leader() else 0)
            left.remove(chosen)
            yield chosen

    def produce(
        self,
        kind: str,
        content: Any,
        build: Callable[[Path], dict[str, Any]],
        collective: bool = False,
        outlook: Callable[[], Outlook] | None = None,
    ) -> Artifact:
        """Find the artifact that ``content`` describes, or build it once, however many runs and processes ask for it.

        Of several processes of one run, the first finds, locks, builds and finishes; the others wait and return the same.

        Args:
            build: computes into the folder it is given (which may hold what a killed run left) and returns facts to record; the
                time it took, over all runs that had a part in it, is recorded as ``seconds`` unless it returns its own.
            collective: all processes of the run call ``build``, because it trains a network on all of them; files are written
                by the first process alone.
            outlook: for the plan of a run.
        """
        leader, artifact = processes.is_leader(), None
        failure: Diverged | None = None
        with contextlib.ExitStack() as lock:
            try:
                artifact = processes.broadcast(self._find_or_lock(kind, content, lock) if leader else None)
                if artifact is None:
                    if leader:
                        try:
                            artifact = self._build(kind, content, build)
                        except Diverged as error:
                            if collective:  # raised in all processes
                                raise
                            failure = error
                    elif collective:
                        build(self.folder(kind, content))
                    artifact, failure = processes.broadcast((artifact, failure))
                    if failure is not None:
                        raise failure
            except Exception as error:
                if _is_disk_full(error):
                    raise StageFailed(
                        f"the disk of {self.root} is full; free some space and run the command again: it goes on where it was."
                    ) from error
                raise
        assert artifact is not None
        if leader and self.record is not None:
            with self.record.open("a") as stream:
                stream.write(f"{kind}/{artifact.fingerprint}\n")
        return artifact

    def _find_or_lock(self, kind: str, content: Any, lock: contextlib.ExitStack) -> Artifact | None:
        found = inspect(self.folder(kind, content))
        if kind in self.closed and not found.whole:
            stage, missing = self.closed[kind], f"what it makes ({kind}) is not in the store {self.root} yet"
            wrong = next((f"{path} {problem}" for path, problem in found.broken.items()), missing)
            raise UserError(f"stages=[...] leaves out {stage}, but {wrong}; add {stage} to stages.")
        if found.strays or not found.whole:
            lock.enter_context(self._locked(found.folder))
            found = inspect(found.folder)  # another run may have finished while this one waited
            if found.broken or found.strays:
                self._set_aside(found)
        return Artifact.of(found.folder, found.manifest) if found.whole else None

    def _set_aside(self, found: Inspection) -> None:
        """Move a damaged artifact, or the files that do not belong to a whole one, out of the way."""
        place = self.root / DAMAGED / found.folder.relative_to(self.root)
        names = (place.with_name(f"{place.name}-{number}") for number in itertools.count(1))
        aside = next(name for name in names if not name.exists())
        (path, problem), *others = (found.strays if found.whole else found.broken).items()
        more = f" (and {len(others)} more)" if others else ""
        then = f"it is moved to {aside}" if found.whole else f"the artifact is moved to {aside} and made again"
        _log.warning(f"store: {path} {problem}{more}; {then}.")
        paths = found.strays if found.whole else [entry for entry in found.folder.iterdir() if entry.name != LOCK]
        for path in sorted(paths, key=lambda path: path.name == MANIFEST):  # last: without it the rest would be resumed
            target = aside / path.relative_to(found.folder)
            with self._writing():
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
        if "digest" in found.manifest and found.broken:
            self._replaced[found.folder] = found.manifest["files"]

    def _build(self, kind: str, content: Any, build: Callable[[Path], dict[str, Any]]) -> Artifact:
        folder, started = self.folder(kind, content), time.monotonic()
        before, outer = _start_clock(folder), self.building
        self.building = outer or folder.name
        try:
            facts = build(folder)
        finally:
            self.building = outer
        return self._finish(folder, kind, content, {"seconds": round(before + time.monotonic() - started, 2), **facts})

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if _is_disk_full(error):
                raise
            raise UserError(
                f"the artifact store {self.root} cannot be written ({error.strerror}); set store=FOLDER to one that can."
            ) from error

    @contextlib.contextmanager
    def _locked(self, folder: Path) -> Iterator[None]:
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            stream = (folder / LOCK).open("w")
        with stream:
            # The kernel frees the lock when the holder and the loader processes it forked have ended, so a killed run blocks the
            # next one for seconds at most.
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _log.info("store: waiting for another run that is computing %s, or was killed just now", folder)
                fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _finish(self, folder: Path, kind: str, content: Any, facts: dict[str, Any]) -> Artifact:
        for leftover in folder.rglob(".*"):  # half a file of a killed run: ours, or of a library that writes it for us
            if leftover.is_file() and (leftover.parent != folder or leftover.name.startswith(_PARTIAL)):
                leftover.unlink(missing_ok=True)
        files = {}
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            if path.is_file() and not any(part.startswith(".") for part in inside.parts):
                files[inside.as_posix()] = {"size": path.stat().st_size, "sha256": checksum(path)}
        name = fingerprint(content)
        manifest = seal({"kind": kind, "fingerprint": name, "content": content, "facts": facts, "files": files})
        write_json(folder / MANIFEST, manifest)
        if self._replaced.pop(folder, files) != files:
            _log.warning(
                f"store: {folder} was made again with other bytes than before, as on another device or with other versions; "
                "what was made from it earlier stays as it is."
            )
        for path in folder.glob(".*"):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()
        artifact = Artifact.of(folder, manifest)
        self.made.append(artifact)
        return artifact


def _is_locked(folder: Path) -> bool:
    try:
        with (folder / LOCK).open() as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # never begun
        return False
    return False


def _start_clock(folder: Path) -> float:
    """Record that work in ``folder`` begins now; return the seconds that killed runs have spent on it."""
    clock, now = folder / CLOCK, time.time()
    spent = 0.0
    with contextlib.suppress(UserError, LookupError, TypeError):  # without a clock, or with a damaged one
        noted = read_json(clock)
        # A killed run cannot record its end; the last file it wrote is the best estimate.
        last = max(path.stat().st_mtime for path in folder.rglob("*") if path.name != LOCK)
        spent = noted["spent"] + max(0.0, last - noted["since"])
    write_json(clock, {"since": now, "spent": spent})
    return spent


def _is_disk_full(error: BaseException) -> bool:
    # safetensors and worker processes pass the system's error number on as text only.
    numbers = re.findall(r"(?:\[Errno|os error) (\d+)", str(error))
    return getattr(error, "errno", None) in _FULL or any(int(number) in _FULL for number in numbers)
