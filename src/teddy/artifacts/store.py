"""The store: one folder per finished piece of work, found again by its fingerprint.

A folder without ``manifest.json`` is unfinished work that its stage may resume; the manifest is written last, atomically, so its
presence means done (invariants 1 and 2). A lock file keeps two runs that want the same piece from computing it twice. Files and
folders whose name begins with a dot are what a maker needs to go on after a kill: no part of the result, and removed after it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
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

from teddy.artifacts.fingerprint import canonical, file_digest, fingerprint
from teddy.config.errors import BadInput, StageFailed

MANIFEST = "manifest.json"
_LOCK = ".lock"
_CLOCK = ".clock.json"
_PARTIAL = ".partial-"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_log = logging.getLogger("teddy")


def atomic_write(path: Path, write: bytes | str | Callable[[Path], object]) -> Path:
    """Writes a file so that a reader sees the old content or the new, never a half.

    Args:
        path: where the file shall lie; its folder must exist.
        write: the content, or a function that writes it to the temporary path it is given.
    """
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
    """Writes canonical content as indented JSON, atomically."""
    return atomic_write(path, json.dumps(canonical(content), indent=1, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file that this project wrote.

    Raises:
        BadInput: the file is missing or is not whole JSON.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{path} cannot be read ({error}); delete the folder {path.parent} and run the command again."
        ) from error


@dataclass(frozen=True)
class Artifact:
    """A finished piece of work: its folder, its kind and fingerprint, and the facts its maker noted."""

    folder: Path
    kind: str
    fingerprint: str
    facts: dict[str, Any]


Together = Callable[[Mapping[int, Path]], Iterator[tuple[int, dict[str, Any]]]]
"""Makes several pieces of work, see :meth:`ArtifactStore.produce_together`."""


class ArtifactStore:
    """Finished and unfinished work under one root, as ``<root>/<kind>/<fingerprint>/``."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.made: list[Artifact] = []
        """What this process computed itself, as opposed to found."""
        self.closed: Mapping[str, str] = {}
        """Kinds that may not be computed now, each with the stage that would make it."""

    def folder(self, kind: str, content: Any) -> Path:
        """Where the work described by ``content`` lies or will lie."""
        return self.root / kind / fingerprint(content)

    def find(self, kind: str, content: Any) -> Artifact | None:
        """The finished work described by ``content``, or None.

        Raises:
            BadInput: the work was finished but a file has since gone missing or changed its size.
        """
        folder = self.folder(kind, content)
        if not os.path.isfile(folder / MANIFEST):  # unlike Path.is_file, False also where nothing may be read
            return None
        manifest = read_json(folder / MANIFEST)
        try:
            sizes = {name: entry["size"] for name, entry in manifest["files"].items()}
            artifact = Artifact(folder, kind, manifest["fingerprint"], manifest["facts"])
        except (AttributeError, KeyError, TypeError) as error:
            raise BadInput(
                f"{folder / MANIFEST} is no manifest; delete the folder {folder} and run the command again to rebuild it."
            ) from error
        for name, size in sizes.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != size:
                raise BadInput(
                    f"{path} is missing or damaged; delete the folder {folder} and run the command again to rebuild it."
                )
        return artifact

    def produce(self, kind: str, content: Any, build: Callable[[Path], dict[str, Any]]) -> Artifact:
        """Finds the work described by ``content`` or has it built, once, whoever asks.

        Args:
            build: computes into the folder it is given (which may hold what a killed run left) and returns facts to note;
                the time it took, over all runs that had a part in it, is noted as ``seconds`` unless it says so itself.

        Raises:
            BadInput: the store cannot be written, or finished work is damaged.
            StageFailed: the disk filled up while building; what was finished before stays.
        """

        def build_one(folders: Mapping[int, Path]) -> Iterator[tuple[int, dict[str, Any]]]:
            yield 0, build(folders[0])

        return self.produce_together(kind, [content], build_one)[0]

    def produce_together(self, kind: str, contents: Sequence[Any], build: Together) -> list[Artifact]:
        """Like :meth:`produce` for several pieces of work that are cheaper to make at once; each is an artifact of its own.

        Args:
            contents: describe the pieces; those that are the same are made once.
            build: computes into the folders it is given, by the place in ``contents`` of every piece that is missing, and
                yields place and facts of each as soon as it is whole: it is finished then, whatever becomes of the others.

        Returns:
            One artifact for each of ``contents``.
        """
        names = [fingerprint(content) for content in contents]
        found = {name: self.find(kind, content) for name, content in zip(names, contents, strict=True)}
        missing = sorted(name for name, artifact in found.items() if artifact is None)
        if missing and kind in self.closed:
            raise BadInput(
                f"stages=[...] leaves out {self.closed[kind]}, but what it makes ({kind}) is not in the store {self.root} yet; "
                f"add {self.closed[kind]} to stages."
            )
        with contextlib.ExitStack() as stack:
            folders, locks = {}, {}
            for name in missing:  # in one order for all runs, so that no two wait for each other
                place = names.index(name)
                folder = self.folder(kind, contents[place])
                locks[place] = stack.enter_context(contextlib.ExitStack())
                locks[place].enter_context(self._locked(folder))
                found[name] = self.find(kind, contents[place])  # another run may have finished while this one waited
                if found[name] is None:
                    folders[place] = folder
                else:
                    locks[place].close()
            for place, artifact in self._build(kind, contents, dict(sorted(folders.items())), build):
                found[names[place]] = artifact
                locks[place].close()
        return [artifact for artifact in map(found.get, names) if artifact is not None]

    def _build(
        self, kind: str, contents: Sequence[Any], folders: Mapping[int, Path], build: Together
    ) -> Iterator[tuple[int, Artifact]]:
        if not folders:
            return
        started = time.monotonic()
        try:
            before = {place: _start_clock(folder) for place, folder in folders.items()}
            for place, facts in build(folders):
                facts = {"seconds": round(before[place] + time.monotonic() - started, 2), **facts}
                yield place, self._finish(folders[place], kind, contents[place], facts)
        except Exception as error:
            if _is_disk_full(error):
                raise self._disk_full() from error
            raise

    def _disk_full(self) -> StageFailed:
        return StageFailed(
            f"the disk of {self.root} is full; free some space and run the command again: it goes on where it was."
        )

    @contextlib.contextmanager
    def _locked(self, folder: Path) -> Iterator[None]:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stream = (folder / _LOCK).open("w")
        except OSError as error:
            if _is_disk_full(error):
                raise self._disk_full() from error
            raise BadInput(
                f"the artifact store {self.root} cannot be written ({error.strerror}); set store=FOLDER to one that can."
            ) from error
        with stream:
            # The kernel frees the lock when the holder and the loader processes it forked are gone: a killed run cannot block
            # the next one for more than the seconds in which its loaders notice.
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _log.info("store: another run is making %s, or was killed just now; waiting for it", folder)
                fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _finish(self, folder: Path, kind: str, content: Any, facts: dict[str, Any]) -> Artifact:
        for leftover in folder.rglob(f"{_PARTIAL}*"):  # of a killed run
            leftover.unlink(missing_ok=True)
        files = {}
        for path in sorted(folder.rglob("*")):
            place = path.relative_to(folder)
            if path.is_file() and not any(part.startswith(".") for part in place.parts):
                files[place.as_posix()] = {"size": path.stat().st_size, "sha256": file_digest(path)}
        name = fingerprint(content)
        write_json(
            folder / MANIFEST,
            {"kind": kind, "fingerprint": name, "content": content, "facts": facts, "files": files},
        )
        _remove_notes(folder)
        artifact = Artifact(folder, kind, name, canonical(facts))
        self.made.append(artifact)
        return artifact


def _start_clock(folder: Path) -> float:
    """Notes that work in ``folder`` begins now; returns the seconds that runs which were cut off have spent on it."""
    clock, now = folder / _CLOCK, time.time()
    spent = 0.0
    if clock.is_file():
        noted = read_json(clock)
        # A killed run says no goodbye: what it wrote last is its last sign of life.
        last = max(path.stat().st_mtime for path in folder.rglob("*") if path.name != _LOCK)
        spent = noted["spent"] + max(0.0, last - noted["since"])
    write_json(clock, {"since": now, "spent": spent})
    return spent


def _remove_notes(folder: Path) -> None:
    for path in folder.glob(".*"):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _LOCK:
            path.unlink()


def _is_disk_full(error: BaseException) -> bool:
    # safetensors, and a process that was started to help, pass the system's number on as text only.
    numbers = re.findall(r"(?:\[Errno|os error) (\d+)", str(error))
    return getattr(error, "errno", None) in _FULL or any(int(number) in _FULL for number in numbers)
