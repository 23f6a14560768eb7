"""The parts of the documentation that are made from YAML files, classes and records, so that they cannot go stale."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Callable

import yaml

import cost
from commented import CONF, ROOT, head, option_name, options, read
from keys import HIDDEN, code, find_class, key_tables, known_meanings, protocol_names, protocol_rows
from teddy.synthesis.method import Method

TITLES = {"": "The run", "method": "methods"}
MARK = re.compile(r"<!-- generated: (\w+) -->")
ARXIV = re.compile(r"arXiv (\d{4}\.\d{5})")


def cell(text: str) -> str:
    """A text in a table: what is not code in it is no markup."""
    parts = re.split(r"(`[^`]*`|\*\*[^*]*\*\*|https?://\S+)", text.replace("|", "\\|"))
    plain = (part.replace("*", "\\*").replace("<", "&lt;") for part in parts[::2])
    return "".join(part for pair in itertools.zip_longest(plain, parts[1::2], fillvalue="") for part in pair)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table of Markdown."""
    lines = [header, ["---"] * len(header), *([cell(one) for one in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def option_table(group: str) -> str:
    """The options of a group, and what each is for."""
    sign = "+" if group in ("experiment", "sweep", "search", "launch") else ""
    rows = [[code(f"{sign}{group}={option_name(path)}"), head(path)] for path in options(group)]
    return table(["option", "what it is"], rows)


def key_reference() -> str:
    """The key reference."""
    parts, last = [], None
    columns = ["key", "meaning", "values", "default"]
    for one in key_tables():
        if one.group != last:
            parts.append(f"## {TITLES.get(one.group, one.group)}")
            last = one.group
            if one.group:
                parts.append(option_table(one.group))
        if one.option == "protocols":
            parts += ["### The protocols", protocols()]
            continue
        if one.option:
            parts.append(f"### {one.group}={one.option}")
        parts.append(table(columns, [[code(row.key), row.meaning, row.values, row.default] for row in one.rows]))
    for group in ("sweep", "launch", "experiment"):
        parts += [f"## {group}", option_table(group)]
    return "\n\n".join(parts)


def protocols() -> str:
    """The protocols side by side: a column each."""
    rows: dict[str, list[str]] = {}
    for row in protocol_rows(known_meanings()):
        name = row.key.rpartition(".")[2]
        rows.setdefault(name, [code(f"….{name}"), f"{row.meaning} ({row.values})"]).append(row.default)
    return table(["key", "meaning (values)", *map(code, protocol_names())], list(rows.values()))


def methods() -> str:
    """The methods: what they are, their papers, and the records of ours that have them."""
    records = record_methods()
    rows = []
    for path in options("method"):
        name, about = option_name(path), head(path)
        cls = find_class(next(entry.value or "" for key, entry in read(path).items() if key.endswith(HIDDEN)))
        assert issubclass(cls, Method)
        source = "" if ARXIV.search(about) else cls.citation
        found = [f"[{one}](../experiments/{one}/README.md)" for one in records.get(name, [])]
        rows.append([code(name), arxiv(" ".join(filter(None, [about, source]))), ", ".join(found) or "none yet"])
    return table(["method", "what it is, and its paper", "records"], rows)


def arxiv(text: str) -> str:
    """A text whose arXiv numbers are links."""
    return ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def record_methods() -> dict[str, list[str]]:
    """For each method the records in ``experiments/`` whose results have rows of it."""
    found: dict[str, list[str]] = {}
    for path in sorted(ROOT.glob("experiments/*/results.csv")):
        with path.open() as lines:
            for name in sorted({row["method"] for row in csv.DictReader(lines) if "method" in row}):
                found.setdefault(f"detection/{name}" if path.parent.name == "detection" else name, []).append(
                    path.parent.name
                )
    return found


def published() -> str:
    """The published accuracies that reports show beside ours: the ``paper`` keys of the experiments."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for path in sorted((CONF / "experiment").rglob("*.yaml")):
        for key, numbers in (yaml.safe_load(path.read_text()).get("paper") or {}).items():
            *setting, ipc = key.split("/")
            names = (*setting, ipc.removeprefix("ipc"), " ± ".join(map(str, numbers)))
            experiment = option_name(path)
            rows.setdefault(names, []).append(experiment)
    order = sorted(rows, key=lambda names: (*names[:4], int(names[4])))
    return table(["data", "method", "student", "protocol", "IPC", "top-1, %"], [list(names) for names in order])


def one_gpu() -> str:
    """Hours of an ImageNet-1K run on one GPU."""
    rows = [
        [card, f"{ipc}", *cost.columns(cost.hours(cost.CDA / faster, ipc))]
        for card, faster in cost.CARDS.items()
        for ipc in (10, 50, 100)
    ]
    return table(["card", "IPC", "teachers", "synthesis", "labels", "students", "**together**"], rows)


def several_gpus() -> str:
    """Hours of an ImageNet-1K run on several A100."""
    ms = cost.CDA / cost.CARDS["A100 80 GB"]
    rows = [
        [f"{ipc}", f"{gpus}", *cost.columns(cost.hours(ms, ipc, gpus))] for ipc in (10, 50, 100) for gpus in (1, 8, 64)
    ]
    return table(["IPC", "A100", "teachers", "synthesis", "labels", "students", "**together**"], rows)


GENERATED: dict[str, Callable[[], str]] = {
    "keys": key_reference,
    "methods": methods,
    "published": published,
    "protocols": protocols,
    "one_gpu": one_gpu,
    "several_gpus": several_gpus,
}
"""What ``<!-- generated: NAME -->`` in a page stands for."""


def filled(text: str) -> str:
    """A page with what is generated."""
    return MARK.sub(lambda match: GENERATED[match[1]](), text)
