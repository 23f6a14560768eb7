"""Hydra's and OmegaConf's errors as one sentence that names the key, the file and the remedy."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from typing import Any

from teddy.config.schema import TeddyConfig

_FRAME = re.compile(
    r"In '|full_key:|object_type=|reference_type=|Error merging override|.*raised while composing config:?$"
)
_HELP = "'python -m teddy --help' lists groups and experiments"


def sentence(error: BaseException) -> str:
    """One line for a person, from an exception of the configuration libraries."""
    chain = [str(one) for one in _chain(error)]
    text = "\n".join(chain)
    missing = re.search(r"Could not find '([^']+)'(?:.*?Available options in '[^']*':\n(.*))?", text, re.DOTALL)
    if missing and "Could not override" not in text:
        options = [
            line.strip() for line in (missing.group(2) or "").split("\n") if line.strip() and " " not in line.strip()
        ]
        return (
            f"There is no config file '{missing.group(1)}'{_near(missing.group(1).split('/')[-1], options)}; {_HELP}."
        )
    unknown = re.search(r"Key '([^']+)' (?:is not in struct|not in '(\w+)')", text)
    if unknown:
        where = re.search(r"In '([^']+)':", text)
        full = re.search(r"full_key: (\S+)", text)
        key = full.group(1) if full else unknown.group(1)
        place = f" in conf/{where.group(1)}.yaml" if where else ""
        return unknown_key(key, place)
    full = re.search(r"full_key: (\S+)", text)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    first = next((line for line in lines if not _FRAME.match(line)), type(error).__name__).rstrip(".:")
    where = re.search(r"In '([^']+)':", text)
    place = f" (in conf/{where.group(1)}.yaml)" if where else ""
    return f"{full.group(1)}: {first}{place}." if full and full.group(1) not in first else f"{first}{place}."


def unknown_key(key: str, place: str = "") -> str:
    """The sentence for a key that does not exist, with the nearest one that does."""
    return f"There is no key '{key}'{place}{_near(key, known_keys())}; {_HELP}."


def known_keys(node: type = TeddyConfig, prefix: str = "") -> list[str]:
    """Every dotted key of the schema."""
    keys = []
    hints: dict[str, Any] = typing.get_type_hints(node)
    for field in dataclasses.fields(node):
        keys.append(prefix + field.name)
        if dataclasses.is_dataclass(hints[field.name]) and isinstance(hints[field.name], type):
            keys += known_keys(hints[field.name], f"{prefix}{field.name}.")
    return keys


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__
    return chain


def _near(word: str, options: list[str]) -> str:
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.5) or [
        option for option in options if option.split(".")[-1] == word.split(".")[-1]
    ]
    return f"; did you mean '{close[0]}'?" if close else ""
