"""``python -m teddy.artifacts verify|gc PATH``: what is damaged in a store, and what no run refers to."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from teddy.artifacts.integrity import CLOCK, LOCK, MANIFEST, inspect, read_manifest
from teddy.artifacts.store import DAMAGED

RECORDS = ("artifacts.txt", "run.json", "results.jsonl", "config.yaml")
"""Files of a run folder. The first names all artifacts that the run made or found; earlier versions wrote none."""
NAMED = ("images", "students")  # kinds that earlier versions name in the other files
RECENT = 24 * 3600.0  # seconds for which an artifact may belong to a run that is not over
_NAME = re.compile(r"\b[0-9a-f]{16}\b")


def read_runs(folders: Sequence[Path]) -> tuple[dict[str, str], list[Path]]:
    """By fingerprint, the command of a run below some folders that refers to it; and run folders that list no artifacts."""
    commands: dict[str, str] = {}
    nameless = []
    for place, _, names in (entry for top in folders for entry in os.walk(top)):
        texts = {name: Path(place, name).read_text(errors="replace") for name in RECORDS if name in names}
        if texts and RECORDS[0] not in texts:
            nameless.append(Path(place))
        command = ""
        with contextlib.suppress(ValueError, LookupError, TypeError):
            command = json.loads(texts["run.json"])["command"]
        for name in _NAME.findall("\n".join(texts.values())):
            commands[name] = command or commands.get(name, "")
    return commands, nameless


def artifact_folders(path: Path) -> list[Path]:
    """The folders of artifacts in a store, finished or not, or the one that is named itself."""
    folders = [path] if _NAME.fullmatch(path.name) else sorted(path.glob("*/*/"))
    return [folder for folder in folders if _NAME.match(folder.name)]


def verify(path: Path, commands: dict[str, str]) -> int:
    """Print each file that is not as its manifest says, and the command that makes it again; return how many there are."""
    started, folders, size, damaged = time.monotonic(), artifact_folders(path), 0, 0
    for folder in folders:
        found = inspect(folder)
        lost = not found.manifest and not (folder / CLOCK).exists()
        problems = found.broken | found.strays or ({folder / MANIFEST: "is missing"} if lost else {})
        for file, problem in problems.items():
            print(f"{file} {problem}; repaired by: {commands.get(folder.name) or 'the command that made it'}")
        damaged += len(problems)
        size += sum(entry["size"] for entry in found.manifest.get("files", {}).values())
    seconds = time.monotonic() - started
    print(f"{len(folders)} artifacts, {size / 1e6:.1f} MB, read in {seconds:.1f} s: {damaged or 'no'} damaged files.")
    return damaged


def collect(store: Path, commands: dict[str, str], old_runs: bool, delete: bool) -> None:
    """Print what no run refers to, and delete it if asked to; what is unfinished, recent, in use or not ours is left alone.

    With old runs, which do not name what they used beyond images and students, all else is kept.
    """
    unused, left, total = 0, 0, 0.0
    for folder in (*artifact_folders(store), *artifact_folders(store / DAMAGED)):
        aside = folder.parent.parent.name == DAMAGED
        if not aside and (folder.name in commands or (old_runs and folder.parent.name not in NAMED)):
            continue
        with contextlib.ExitStack() as lock:
            try:
                files = read_manifest(folder / MANIFEST)["files"]
                age = time.time() - max(folder.stat().st_mtime, (folder / MANIFEST).stat().st_mtime)
                if (folder / LOCK).exists():
                    fcntl.flock(lock.enter_context((folder / LOCK).open("a")), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (OSError, ValueError):  # no manifest, or somebody works on it
                files, age = {}, 0.0
            if age < RECENT:
                left += 1
                continue
            size = sum(entry["size"] for entry in files.values()) / 1e6
            unused, total = unused + 1, total + size
            print(f"{size:10.2f} MB  {folder}")
            for name in (*files, MANIFEST, LOCK) if delete else ():
                (folder / name).unlink(missing_ok=True)
            for place, _, _ in os.walk(folder, topdown=False) if delete else ():
                with contextlib.suppress(OSError):  # it holds something that no manifest lists
                    os.rmdir(place)
    done = "deleted" if delete else "--delete removes them"
    print(f"{unused} artifacts that no run refers to, {total:.1f} MB: {done}.")
    print(f"{left} more are unfinished, damaged, in use, or less than a day old, and are left alone.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 something is damaged, 2 the input cannot be used."""
    parser = argparse.ArgumentParser("python -m teddy.artifacts", description="Check and tidy finished work on disk.")
    parser.add_argument("task", choices=("verify", "gc"), help="name what is damaged; or list what no run refers to")
    parser.add_argument("path", type=Path, metavar="PATH", help="a store; for verify also <store>/<kind>/<fingerprint>")
    parser.add_argument("--runs", nargs="+", type=Path, default=[Path("outputs")], help="folders; default: outputs")
    parser.add_argument("--delete", action="store_true", help="gc: remove what it lists")
    args = parser.parse_args(argv)
    for folder in [args.path] if args.task == "verify" else [args.path, *args.runs]:
        if not folder.is_dir():
            parser.error(f"{folder} is no folder; give the store as PATH, and the folders of all its runs with --runs.")
    commands, old = read_runs(args.runs)
    if args.task == "verify":
        return min(verify(args.path.absolute(), commands), 1)
    collect(args.path.absolute(), commands, bool(old), args.delete)
    if old:
        print(f"Runs of an earlier version, such as {old[0]}, name no teachers, labels and banks, so those are kept.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
