"""The rows as a table and as a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.timing import Row

HEAD = ("what", "ours", "reference", "ratio", "goal", "ok")


def table(rows: Sequence[Row]) -> str:
    """A Markdown table whose columns also line up on a terminal."""
    lines = [HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([texts[0], rule, *texts[1:]])


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.what,
        f"{row.ours:.4g}",
        f"{row.reference:.4g}",
        f"{row.ratio:.3f}",
        row.goal,
        "yes" if row.ok else "NO",
    )


def write_results(path: Path, device: str, versions: dict[str, str], rows: Sequence[Row]) -> None:
    path.parent.mkdir(exist_ok=True)
    content = {"device": device, "versions": versions, "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=2) + "\n")


def show_results(page: Path, name: str, device: str, versions: dict[str, str], rows: Sequence[Row]) -> None:
    """Put the table between a page's ``<!-- results NAME -->`` and ``<!-- end NAME -->``."""
    text = page.read_text()
    before, opening, rest = text.partition(f"<!-- results {name} -->\n")
    _, closing, after = rest.partition(f"<!-- end {name} -->")
    if not closing:
        raise ValueError(f"{page} has no lines <!-- results {name} --> and <!-- end {name} -->")
    hardware = f"{device}; {', '.join(f'{package} {version}' for package, version in versions.items())}."
    page.write_text(f"{before}{opening}{hardware}\n\n{table(rows)}\n{closing}{after}")


def kept_rows(path: Path, device: str, versions: dict[str, str], fresh: Sequence[Row]) -> list[Row]:
    """The rows of an earlier file that were not measured again; none if hardware or versions differ."""
    if not path.is_file():
        return []
    content = json.loads(path.read_text())
    if (content["device"], content["versions"]) != (device, versions):
        return []
    measured = {row.what for row in fresh}
    return [Row(**row) for row in content["rows"] if row["what"] not in measured]
