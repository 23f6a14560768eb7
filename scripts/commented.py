"""The YAML files of conf/ with the comments beside their keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"


@dataclass(frozen=True)
class Entry:
    """A key of a YAML file: its value as it is written (None: keys follow), and the comment beside it."""

    value: str | None
    comment: str


def head(path: Path) -> str:
    """What a file is for: the comment that it begins with."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.lstrip("# "))
    return " ".join(lines)


def package(path: Path) -> str:
    """Where the keys of a file stand in a configuration."""
    named = re.search(r"^# @package (\S+)", path.read_text(), re.MULTILINE)
    if named:
        return "" if named[1] == "_global_" else named[1]
    return path.relative_to(CONF).parts[0] if path.parent != CONF else ""


def read(path: Path) -> dict[str, Entry]:
    """The keys of a file and of those that it builds on, by their full names."""
    text = path.read_text()
    root = yaml.compose(text)
    found: dict[str, Entry] = {}
    for parent in yaml.safe_load(text).get("defaults", []) if isinstance(root, yaml.MappingNode) else []:
        name = str(parent).partition("@")[0]
        if isinstance(parent, str) and name not in ("schema", "_self_"):
            file = (CONF if name.startswith("/") else path.parent) / f"{name.lstrip('/')}.yaml"
            if file.is_file():
                old, new = package(file), package(path)
                found |= {new + key.removeprefix(old): entry for key, entry in read(file).items()}
    prefix = package(path)
    for key, entry in _walk(root, text.splitlines(), text, f"{prefix}." if prefix else ""):
        if entry.value is not None:  # replaces the keys of a parent
            found = {one: kept for one, kept in found.items() if not one.startswith(f"{key}.")}
        inherited = found[key].comment if key in found else ""
        found[key] = Entry(entry.value, entry.comment or inherited)
    return found


def _walk(node: Any, lines: list[str], text: str, prefix: str) -> Iterator[tuple[str, Entry]]:
    for key, value in node.value:
        if key.value in ("defaults", "hydra"):
            continue
        inside = isinstance(value, yaml.MappingNode) and bool(value.value)
        end = key.end_mark if inside and not value.flow_style else value.end_mark
        beside = re.match(r":?\s*#\s*(.*)", lines[end.line][end.column :])
        above = lines[key.start_mark.line - 1].strip() if key.start_mark.line else ""
        comment = (
            beside[1] if beside else above.lstrip("# ") if above.startswith("#") and _below_head(key, lines) else ""
        )
        written = text[value.start_mark.index : value.end_mark.index].strip() or "null"
        yield prefix + key.value, Entry(None if inside else written, comment)
        if inside:
            yield from _walk(value, lines, text, f"{prefix}{key.value}.")


def _below_head(key: Any, lines: list[str]) -> bool:
    return not all(line.startswith("#") for line in lines[: key.start_mark.line])


def options(group: str) -> list[Path]:
    """The files of a group that can be chosen, those of its folders last."""
    files = [path for path in (CONF / group).rglob("*.yaml") if path.name[0] != "_" and "base" not in path.parts]
    return sorted(files, key=lambda path: (len(path.parts), path.name))


def option_name(path: Path) -> str:
    """What is typed to choose a file: ``detection/teddy``."""
    return "/".join(path.relative_to(CONF).parts[1:]).removesuffix(".yaml")
