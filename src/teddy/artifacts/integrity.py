"""Whether finished work is still what its manifest says: file names, sizes, checksums, facts, and nothing besides.

``manifest.json`` lists every file of an artifact with its size and SHA-256, and carries a digest of all the rest of itself.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from teddy.artifacts.fingerprint import canonical, file_digest, fingerprint

MANIFEST = "manifest.json"
CLOCK = ".clock.json"  # present while work is unfinished
LOCK = ".lock"
LARGE = 1 << 30  # bytes from which on the check of a file is announced
_log = logging.getLogger("teddy")
Problems = dict[Path, str]
"""What is wrong, by file, to be read after its name."""


@dataclass(frozen=True)
class Inspection:
    """What was found in an artifact's folder: a manifest, empty if none can be believed, and what is wrong with which files."""

    folder: Path
    manifest: dict[str, Any] = field(default_factory=dict)
    broken: dict[Path, str] = field(default_factory=dict)
    strays: dict[Path, str] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether the artifact is finished, and every file of it as it was then."""
        return bool(self.manifest) and not self.broken


def seal(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest as plain data with the digest of its content."""
    content = canonical(manifest)
    return {**content, "digest": fingerprint(content)}


def checksum(path: Path) -> str:
    """SHA-256 of a file, read once per process unless the file system shows that it was changed."""
    seen = path.stat()
    return _checksum(path, seen.st_size, seen.st_ctime_ns, seen.st_ino)


@cache
def _checksum(path: Path, size: int, *changes: int) -> str:
    if size >= LARGE:
        _log.info("store: reading %.1f GB to check %s", size / 1e9, path)
    return file_digest(path)


def inspect(folder: Path) -> Inspection:
    """Compare a folder with its manifest. Hidden files at its top are no part of it: they are locks and unfinished work."""
    path = folder / MANIFEST
    if not os.path.isfile(path):  # unlike Path.is_file, False also where nothing may be read
        left = os.listdir(folder) if os.path.isdir(folder) else []
        lost = CLOCK not in left and set(left) - {LOCK}
        return Inspection(folder, broken={path: "is missing"} if lost else {})
    try:
        manifest = read_manifest(path)
    except ValueError as error:
        return Inspection(folder, broken={path: str(error)})
    broken, strays = compare(folder, path, manifest["files"])
    return Inspection(folder, manifest, broken, strays)


def compare(folder: Path, manifest: Path, listed: Mapping[str, Mapping[str, Any]]) -> tuple[Problems, Problems]:
    """Compare the files of a folder with a list of their sizes and checksums: what is wrong with them, and with others."""
    files = {folder / name: entry for name, entry in listed.items()}
    problems = {path: _problem(path, entry["size"], entry["sha256"]) for path, entry in files.items()}
    known = {manifest, *files}
    visible = [each for each in sorted(folder.rglob("*")) if not each.relative_to(folder).parts[0].startswith(".")]
    strays = [each for each in visible if each not in known and (each.is_symlink() or not each.is_dir())]
    broken = {path: problem for path, problem in problems.items() if problem}
    return broken, dict.fromkeys(strays, "is listed in no manifest")


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest, one without a digest too, as earlier versions wrote it; a ValueError goes on after the file's name."""
    name = path.parent.name.partition("-")[0]  # what was set aside has a number behind it
    try:
        manifest = dict(json.loads(path.read_bytes()))
        rest = {key: value for key, value in manifest.items() if key != "digest"}
        files = manifest["files"].items()
        typed = isinstance(manifest["facts"], dict)
        typed &= all(type(one["size"]) is int and type(one["sha256"]) is str for _, one in files)
        unchanged = typed and manifest.get("digest") in (None, fingerprint(rest))
        own = manifest["kind"], manifest["fingerprint"], fingerprint(manifest["content"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"is no manifest ({type(error).__name__})") from error
    if not unchanged:
        raise ValueError("was changed since it was written")
    if own != (path.parent.parent.name, name, name):
        raise ValueError("is that of another artifact")
    if not all(is_inside(file) for file, _ in files):
        raise ValueError("lists a file outside its folder")
    return manifest


def is_inside(name: str) -> bool:
    """Whether a relative path, as a manifest lists it, stays in its folder."""
    path = PurePosixPath(name)
    return path.as_posix() == name and not path.is_absolute() and ".." not in path.parts and name != "."


def _problem(path: Path, size: int, digest: str) -> str:
    """What is wrong with a file, to be read after its name; empty if nothing is."""
    try:
        if not path.is_file():
            return "is missing"
        found = path.stat().st_size
        if found != size:
            return f"has {found} bytes instead of {size}"
        return "" if checksum(path) == digest else "holds other bytes than its manifest says"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
