"""A table of text in the forms that people want: Markdown, LaTeX, the console, and CSV with a line for every student."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from teddy.report.ledger import Result

if TYPE_CHECKING:
    from rich.table import Table

ACCURACY = "top-1 %"
LABELS_MB = "labels MB"
SECONDS = "seconds"
NUMBERS = {"IPC", "seeds", LABELS_MB, SECONDS, ACCURACY, "against random", "paper"}
SHAREABLE = {"dataset", "labels", "protocol", "student", "IPC"}
"""Columns that are said once where they are the same in every row."""

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "–": "--",
}

Lines = Sequence[Sequence[str]]


def numeric(head: Sequence[str], lines: Lines) -> list[bool]:
    """Which columns hold numbers and are set flush right: the known ones, and those whose every cell is a number."""
    columns = list(zip(*lines, strict=True)) if lines else [() for _ in head]
    return [name in NUMBERS or _all_numbers(column) for name, column in zip(head, columns, strict=True)]


def _all_numbers(cells: Sequence[str]) -> bool:
    try:
        return bool([float(cell) for cell in cells])
    except ValueError:
        return False


def condense(
    head: Sequence[str], lines: Lines, also: Collection[str] = ()
) -> tuple[dict[str, str], list[str], list[list[str]]]:
    """What every row shares, by column, and the table without it and without empty columns.

    Args:
        also: further columns that may be left out if they say the same in every row.
    """
    columns = list(zip(*lines, strict=True)) if lines else [() for _ in head]
    shared = {
        name: column[0]
        for name, column in zip(head, columns, strict=True)
        if name in {*SHAREABLE, *also} and len(set(column)) == 1 and column[0]
    }
    kept = [index for index, name in enumerate(head) if name not in shared and any(columns[index])]
    return shared, [head[index] for index in kept], [[line[index] for index in kept] for line in lines]


def markdown(head: Sequence[str], lines: Lines) -> str:
    """A GitHub pipe table."""
    rule = ["---:" if right else "---" for right in numeric(head, lines)]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, rule, *escaped])


def latex(
    head: Sequence[str], lines: Lines, *, bold: Collection[int] = (), rules: Collection[int] = (), comment: str = ""
) -> str:
    r"""A ``tabular`` for the package booktabs.

    Args:
        bold: rows whose accuracy is set in bold type.
        rules: rows that begin a new block, with a ``\midrule`` above.
        comment: said in the first line.
    """
    right = numeric(head, lines)
    said = " ".join(f"{comment}; needs \\usepackage{{booktabs}}".split()).removeprefix("; ")
    text = [f"% {said}", rf"\begin{{tabular}}{{{''.join('r' if one else 'l' for one in right)}}}", r"\toprule"]
    text += [_latex_line([_latex_text(name) for name in head]), r"\midrule"]
    for index, line in enumerate(lines):
        if index in rules and index > 0:
            text.append(r"\midrule")
        cells = [_latex_cell(cell, one) for cell, one in zip(line, right, strict=True)]
        if index in bold and ACCURACY in head:
            place = list(head).index(ACCURACY)
            cells[place] = rf"\textbf{{{cells[place]}}}"
        text.append(_latex_line(cells))
    return "\n".join([*text, r"\bottomrule", r"\end{tabular}", ""])


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_cell(cell: str, number: bool) -> str:
    return f"${cell}$" if number and cell[:1] in ("+", "-") else _latex_text(cell)


def _latex_text(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)


def console(
    head: Sequence[str], lines: Lines, *, bold: Collection[int] = (), title: str = "", also: Collection[str] = ()
) -> Table:
    """The table for ``rich.print``.

    A console is narrow: what is the same in every row stands in the title, and an empty column is left out.
    """
    from rich import box
    from rich.table import Table

    shared, head, lines = condense(head, lines, also)
    facts = [title, *(f"{name} {value}" for name, value in shared.items())]
    said = ", ".join(filter(None, facts)) or None
    table = Table(title=said, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
    columns = list(zip(*lines, strict=True)) or [()] * len(head)
    for name, cells, right in zip(head, columns, numeric(head, lines), strict=True):
        widest = max(map(len, cells), default=0)
        words = name.rpartition(".")[2].replace("_", " ").split() if widest < len(name) else [name]
        heading, least = (
            "\n".join(map(escape, words)),
            min(widest, 5),
        )  # of a terminal that is too narrow, all get a share
        table.add_column(heading, justify="right" if right else "left", no_wrap=right, overflow="fold", min_width=least)
    for index, line in enumerate(lines):
        table.add_row(*map(escape, line), style="bold" if index in bold else None)
    return table


def students_csv(rows: Sequence[tuple[dict[str, str], Result]]) -> str:
    """A line for every student: the setting's columns first, then the fields of a result; mappings are JSON."""
    text = io.StringIO()
    settings = list(dict.fromkeys(name for setting, _ in rows for name in setting))
    names = [field.name for field in dataclasses.fields(Result)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*settings, *names])
    for setting, row in rows:
        values = [getattr(row, name) for name in names]
        texts = [json.dumps(value, sort_keys=True) if isinstance(value, dict) else value for value in values]
        writer.writerow([*(setting.get(name, "") for name in settings), *texts])
    return text.getvalue()
