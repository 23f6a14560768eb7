"""Every key of every configuration, with its meaning, the values it may have, and its default.

The meaning of a key is the comment beside it in ``conf/``. Where there is none, it is that of the key that the value is taken
from, and otherwise what the class that has the key says of its field.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from commented import CONF, Entry, option_name, options, read
from teddy.config.schema import EPOCHS, GROUPS, MOST, RULE, TeddyConfig

HIDDEN = "_target_"
DEFAULTS = {"search": "classwise", "method": "teddy", "logger": "csv"}
WORDS = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`", Any: "see its meaning"}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


@dataclass(frozen=True)
class Row:
    """A line of the key reference."""

    key: str
    meaning: str
    values: str
    default: str


@dataclass(frozen=True)
class Table:
    """The keys of a group (``option`` is empty), or those that an option of it adds, by the class that has them."""

    group: str
    option: str
    target: str
    rows: list[Row]


def chosen() -> dict[str, str]:
    """The option of each group that the primary configuration names."""
    defaults = yaml.safe_load((CONF / "config.yaml").read_text())["defaults"]
    found = {group: name for one in defaults if isinstance(one, dict) for group, name in one.items()}
    return {**found, **DEFAULTS}


def known_meanings() -> dict[str, str]:
    """Comments by key, of every option; those of the options that are chosen by default come first."""
    default, found = chosen(), dict[str, str]()
    files = [path for group in (*GROUPS, "search", "method", "logger") for path in options(group)]
    files.sort(key=lambda path: default[path.relative_to(CONF).parts[0]] != option_name(path))
    for path in [CONF / "config.yaml", *files]:
        for key, entry in read(path).items():
            if entry.comment:
                found.setdefault(key, entry.comment)
    return found


def meaning(key: str, entry: Entry, known: dict[str, str], otherwise: str = "") -> str:
    """What a key means; see the top of this file."""
    if entry.comment:
        return entry.comment
    source = re.fullmatch(r"\$\{(\.*)([\w.]+)\}", entry.value or "")
    if source:
        dots, name = source.groups()
        place = key.split(".")[: -len(dots)] if dots else []
        found = known.get(".".join([*place, name]), "")
        if found:
            return found
    return otherwise or known.get(key, "")


def attributes(cls: type) -> dict[str, str]:
    """What a class and those it is made from say of each field: in the comment beside it, or under ``Attributes``."""
    found: dict[str, str] = {}
    for one in inspect.getmro(cls):
        section = inspect.cleandoc(one.__doc__ or "").partition("Attributes:\n")[2].partition("\n\n")[0]
        said = re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
        if dataclasses.is_dataclass(one):
            said += re.findall(r"^    (\w+): .*  # (?!noqa|type:)(.*)", inspect.getsource(one), re.MULTILINE)
        for names, text in said:
            for name in names.split(", "):
                found.setdefault(name, plain(" ".join(text.split())))
    return found


def plain(text: str) -> str:
    """A docstring's sentence as Markdown."""
    text = re.sub(r"; see :\w+:`[^`]*`", "", text)
    text = re.sub(r":\w+:`~?\.?([^`]*)`", r"`\1`", text).replace("``", "`")
    return re.sub(r"\bNone\b", "null", text).removesuffix(".")


def values(hint: Any, rule: str = "") -> str:
    """The values that a type allows, in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return f"{values(next(one for one in inner if one is not type(None)), rule)}, or null"
    if origin is typing.Literal:
        return ", ".join(f"`{one}`" for one in inner)
    if rule:
        if rule.startswith("is not known"):
            return ", ".join(f"`{word}`" for word in rule.partition("choose one of ")[2].split(", "))
        said = (
            rule.split("; ")[-1]
            .replace(f" and at most {MOST:,}", "")
            .rstrip(",")
            .replace("not be negative", "0 or more")
        )
        kind = {int: "whole number, ", float: "number, ", str: "text of "}.get(hint, "")
        return kind + re.sub(r"^(.*must lie |must (be |have )?|is |name )", "", said)
    if origin is typing.Annotated:
        limits = {  # a type that is bounded twice has the narrower bound last
            name[0]: f"{BOUNDS[name]} {limit:,}"
            for field in hint.__metadata__
            for part in getattr(field, "metadata", [field])
            for name, limit in vars_of(part).items()
            if limit not in (MOST, EPOCHS)
        }
        return ", ".join([values(inner[0]), *limits.values()])
    if origin is tuple:
        return f"{len(inner)} numbers, each {values(inner[0]).removeprefix('number, ')}"
    if origin in (list, dict):
        return {list: "list", dict: "keys of your choice"}[origin]
    return WORDS.get(hint, "keys below it" if dataclasses.is_dataclass(hint) else "class with its keys")


def vars_of(part: Any) -> dict[str, Any]:
    """Fields of a bound such as ``annotated_types.Ge``, which has slots."""
    return {name: getattr(part, name) for name in BOUNDS if hasattr(part, name)}


def value_kind(text: str) -> str:
    """What a value looks like, for classes whose fields have no types of ours."""
    value = yaml.safe_load(text)
    if value is None or (isinstance(value, str) and "${" in value):
        return "text, or null"
    return WORDS.get(type(value), "list or keys")


def schema_rows(cls: type, prefix: str, entries: dict[str, Entry], known: dict[str, str]) -> Iterator[Row]:
    """A row for each key of a schema that holds a value; keys that hold objects are tables of their own."""
    hints, said = typing.get_type_hints(cls), attributes(cls)
    for field in dataclasses.fields(cls):
        key, hint = prefix + field.name, hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from schema_rows(hint, f"{key}.", entries, known)
            continue
        default = "{}" if field.default is dataclasses.MISSING else str(field.default)
        entry = entries.get(key, Entry("null" if default == "None" else default, ""))
        if entry.value is None or (hint is Any and RULE not in field.metadata and "${" in entry.value):
            continue
        rule = field.metadata[RULE][1] if RULE in field.metadata else ""
        yield Row(key, meaning(key, entry, known, said.get(field.name, "")), values(hint, rule), code(entry.value))


def object_rows(key: str, entries: dict[str, Entry], known: dict[str, str]) -> Iterator[Row]:
    """A row for each key of the class that the node at ``key`` names, also those that its YAML file leaves out."""
    cls = find_class(entries[f"{key}.{HIDDEN}"].value or "")
    yield from field_rows(cls, key, entries, known)


def field_rows(cls: type | None, key: str, entries: dict[str, Entry], known: dict[str, str]) -> Iterator[Row]:
    """A row for each field of a class of ours, and each key that stands in the YAML file."""
    ours = cls is not None and cls.__module__.startswith("teddy.")
    fields = {one.name: one for one in dataclasses.fields(cls) if one.init} if dataclasses.is_dataclass(cls) else {}
    said = attributes(cls) if cls and fields else {}
    hints = typing.get_type_hints(cls if fields else cls.__init__, include_extras=True) if ours and cls else {}
    written = [name for one in entries if (name := one.removeprefix(f"{key}.")) != one and "." not in name]
    for name in dict.fromkeys([*written, *fields]):
        here = f"{key}.{name}"
        if name == HIDDEN:
            continue
        default = fields[name].default if name in fields else None
        entry = entries.get(here, Entry({None: "null"}.get(default, str(default)), ""))
        hint = hints.get(name)
        if entry.value is None:
            target = entries.get(f"{here}.{HIDDEN}")
            inner = find_class(target.value or "") if target else dataclass_in(hint)
            yield from field_rows(inner, here, entries, known)
        else:
            kind = values(hint) if hint is not None else value_kind(entry.value)
            yield Row(here, meaning(here, entry, known, said.get(name, "")), kind, code(entry.value))


def dataclass_in(hint: Any) -> type | None:
    """The dataclass that a hint allows, such as that of ``Sharpness | None``."""
    return next((one for one in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(one)), None)


def find_class(target: str) -> type:
    """The class with a full name."""
    module, _, name = target.rpartition(".")
    found: type = getattr(importlib.import_module(module), name)
    return found


def protocol_names() -> dict[str, Path]:
    """Protocols by name, each with the file that has it."""
    found = {}
    for path in options("evaluation"):
        for key in read(path):
            if re.fullmatch(r"evaluation\.protocols\.\w+", key):
                found.setdefault(key.rpartition(".")[2], path)
    return found


def key_tables() -> list[Table]:
    """Every key of every configuration."""
    known, default = known_meanings(), chosen()
    run = {key: entry for key, entry in read(CONF / "config.yaml").items() if "." not in key}
    rows = [
        row for row in schema_rows(TeddyConfig, "", run, known) if row.key.partition(".")[0] not in (*GROUPS, "search")
    ]
    tables = [Table("", "", "", [row for row in rows if row.key not in ("methods", "logger")])]
    for group in (*GROUPS, "search"):
        cls = GROUPS.get(group) or typing.get_args(typing.get_type_hints(TeddyConfig)[group])[0]
        entries = read(CONF / group / f"{default[group]}.yaml")
        rows = [row for row in schema_rows(cls, f"{group}.", entries, known) if row.key != "evaluation.protocols"]
        tables.append(Table(group, "", "", rows))
        if group == "evaluation":
            tables.append(Table(group, "protocols", "", list(protocol_rows(known))))
        tables += object_tables(group, known)
    return tables + object_tables("method", known) + object_tables("logger", known)


def protocol_rows(known: dict[str, str]) -> Iterator[Row]:
    """The keys of every protocol."""
    hints = typing.get_args(typing.get_type_hints(GROUPS["evaluation"])["protocols"])[1]
    texts: dict[str, str] = {}
    for key, text in known.items():
        if key.startswith("evaluation.protocols."):
            texts.setdefault(key.rpartition(".")[2], text)
    for name, path in protocol_names().items():
        prefix, entries = f"evaluation.protocols.{name}.", read(path)
        for field in dataclasses.fields(hints):
            entry = entries.get(prefix + field.name, Entry(str(field.default).lower(), ""))
            rule = field.metadata[RULE][1] if RULE in field.metadata else ""
            hint = typing.get_type_hints(hints)[field.name]
            yield Row(prefix + field.name, texts.get(field.name, ""), values(hint, rule), code(entry.value or ""))


def object_tables(group: str, known: dict[str, str]) -> list[Table]:
    """The keys below each ``_target_`` that an option of a group names, unless the object is part of another one."""
    tables: list[Table] = []
    for path in options(group):
        entries = read(path)
        nodes = [key.removesuffix(f".{HIDDEN}") for key in entries if key.endswith(f".{HIDDEN}")]
        for key in nodes:
            if any(key.startswith(f"{other}.") for other in nodes):
                continue
            own = {name: entry.comment for name, entry in entries.items() if entry.comment}
            rows = list(object_rows(key, entries, known | own))
            if rows and not any(table.rows == rows for table in tables):
                tables.append(Table(group, option_name(path), entries[f"{key}.{HIDDEN}"].value or "", rows))
    return tables


def code(text: str) -> str:
    """A value as it is typed."""
    return f"`{text}`"
