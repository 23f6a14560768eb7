"""Stable names for content: the same configuration and inputs give the same sixteen hex digits everywhere."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def canonical(content: Any) -> Any:
    """Reduce dataclasses, tuples, sets and paths to JSON values, with keys as text; TypeError for what has no stable text."""
    if dataclasses.is_dataclass(content) and not isinstance(content, type):
        return canonical({field.name: getattr(content, field.name) for field in dataclasses.fields(content)})
    if isinstance(content, Mapping):
        return {str(key): canonical(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [canonical(value) for value in content]
    if isinstance(content, set | frozenset):
        return sorted(canonical(value) for value in content)
    if isinstance(content, Path):
        return content.as_posix()
    if content is None or isinstance(content, bool | int | float | str):
        return content
    raise TypeError(f"{type(content).__name__} has no stable fingerprint")


def fingerprint(content: Any) -> str:
    """Sixteen hex digits of the SHA-256 of the canonical JSON of ``content``; key order does not matter."""
    text = json.dumps(canonical(content), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
