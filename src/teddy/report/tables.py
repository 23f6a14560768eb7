"""The table of results as Markdown, LaTeX, CSV and on the console."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
from rich import box, get_console
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from teddy.report.comparison import MEASURES, NOT_COMPARED, SETTING, Comparison, compare, value_text, with_spread
from teddy.report.runs import folder_names, read_runs
from teddy.report.sentences import sentences

F1, COCO, LABELS_MB, SECONDS, TEACHERS = "macro-F1 %", "mAP50-95 %", "labels MB", "seconds", "teachers"
ACCURACIES = [f"{one} %" for one in MEASURES.values()]
NUMBERS = {"IPC", "classes", "seeds", LABELS_MB, SECONDS, *ACCURACIES, "against random", F1, COCO, "paper"}
ALWAYS = ("method", "labels", "protocol", *ACCURACIES)  # however narrow a table is
# Columns that move into a note where they are the same in every row; what was compared, how and with what result never do.
SHAREABLE = {"dataset", "student", "classes", "IPC", "seeds"}
# What pandas does not escape.
LATEX = {"±": r"$\pm$", "–": "--", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}


def text_table(comparison: Comparison) -> pd.DataFrame:
    """Write the table as text, with a column for each varied key; a column exists only where it tells rows apart.

    The column ``teachers`` describes the pool. A key that would repeat the name of another column is marked ``(config)``.
    """
    lines = []
    for row in comparison.rows.itertuples():
        line = {"dataset": row.dataset, "method": row.method}
        own = {
            TEACHERS: row.pool,
            "labels": row.labels,
            "protocol": row.protocol,
            "student": row.student,
            "classes": str(row.classes or ""),
            "IPC": str(row.ipc),
            "seeds": str(row.seeds) if row.seeds == len(row.top1) else f"{len(row.top1)} runs of {row.seeds}",
            LABELS_MB: _labels_mb(row),
            SECONDS: _seconds_before(row),
            f"{comparison.measure} %": with_spread(row.mean, row.std),
            "against random": _signed(row.against),
            F1: with_spread(*row.f1),
            COCO: with_spread(*row.coco),
            "paper": with_spread(*row.paper) if row.paper else "",
        }
        keys = {_free_name(key, {*line, *own}): comparison.text(row, key) for key in comparison.own_keys}
        lines.append(line | keys | own)
    table = pd.DataFrame(lines)
    sizes = table[table[LABELS_MB] != ""].groupby(["dataset", "IPC"])[LABELS_MB].nunique()
    iterations = {run.settings[key] for run in comparison.runs for key in run.settings if key.endswith(".iterations")}
    unwanted = {
        "dataset": table.dataset.nunique() == 1,
        TEACHERS: table.groupby(["method", "labels"])[TEACHERS].nunique().max() == 1,
        LABELS_MB: (sizes < 2).all(),
        SECONDS: len(iterations - {None, 0}) < 2,
    }
    return table.drop(columns=[name for name, drop in unwanted.items() if drop])


def ipc_table(comparison: Comparison) -> pd.DataFrame:
    """Write the accuracies of each method and setting by IPC, the paper's in brackets; empty where IPC does not vary."""
    table = text_table(comparison)
    if table.IPC.nunique() == 1:
        return pd.DataFrame()
    paper = table.paper.str.partition(" ")[0]
    table["cell"] = table[f"{comparison.measure} %"] + paper.map(" ({})".format).where(paper != "", "")
    left_out = {*comparison.own_keys} - {*comparison.keys_beside_ipc} | NUMBERS - {"classes"} | {"cell"}
    groups = table.groupby(["method", "labels"])
    settings = [
        name
        for name in table.columns.drop("method")
        if name not in left_out and (name in ALWAYS or groups[name].nunique().max() > 1)
    ]
    wide = table.pivot_table("cell", ["method", *settings], "IPC", aggfunc="first", fill_value="")
    sizes = {size: f"IPC {size}" for size in sorted(wide, key=int)}
    lines = table[["method", *settings]].drop_duplicates().merge(wide.rename(columns=sizes).reset_index())
    lines = pd.concat([some for _, some in lines.groupby(settings, sort=False)])
    always = [name for name in settings if name in ALWAYS]
    return lines[["method", *always, *sizes.values(), *(name for name in settings if name not in always)]]


def cost_table(comparison: Comparison) -> pd.DataFrame:
    """Write what each method cost, as text: time and peak memory of every stage that its students needed."""
    rows = comparison.rows
    costs = pd.DataFrame(rows.cost.to_list()).rename(columns=lambda name: name.replace("_", " ")).fillna(0.0)
    costs = costs.map(lambda one: f"{one:,.{0 if one >= 100 else 2}f}" if one else "")
    keys = {key: [comparison.text(row, key) for row in rows.itertuples()] for key in comparison.own_keys}
    return rows[["method", "labels", "protocol", "student"]].join(costs).assign(**keys).drop_duplicates()


def differences(comparison: Comparison) -> pd.DataFrame:
    """Write the settings that differ between runs, a column per run: first the varied ones, then what follows from them."""
    runs = comparison.runs
    keys = dict.fromkeys([*comparison.values, *(key for run in runs for key in run.settings)])
    values = {key: [value_text(run.value(key)) for run in runs] for key in keys}
    lines = [[key, *some] for key, some in values.items() if key.split(".")[0] not in NOT_COMPARED and len({*some}) > 1]
    return pd.DataFrame(lines, columns=["key", *(f"run {name}" for name in folder_names(runs))])


def condense(table: pd.DataFrame) -> tuple[list[str], pd.DataFrame]:
    """Separate what all rows share, such as ``IPC 10``, from the table without it and without empty columns."""
    table = table.loc[:, (table != "").any() | table.columns.isin(ALWAYS)]
    shared = [name for name in table if name in SHAREABLE and table[name].nunique() == 1]
    return [f"{name} {table[name].iloc[0]}" for name in shared], table.drop(columns=shared)


def numeric_columns(table: pd.DataFrame) -> list[bool]:
    """Which columns are set flush right: the known ones, and those with a number in every row."""
    return [
        name in NUMBERS
        or name.startswith("IPC ")
        or name.endswith((" seconds", " mb"))
        or pd.to_numeric(column, errors="coerce").notna().all()
        for name, column in table.items()
    ]


def markdown(table: pd.DataFrame) -> str:
    """Write a GitHub pipe table."""
    rule = ["---:" if right else "---" for right in numeric_columns(table)]
    lines = [[cell.replace("|", "\\|") for cell in line] for line in table.to_numpy().tolist()]
    return "".join(f"| {' | '.join(line)} |\n" for line in [list(table), rule, *lines])


def latex(comparison: Comparison, title: str = "") -> str:
    r"""Write a ``tabular`` for booktabs: the best of each setting is bold, ``\midrule`` where the setting changes."""
    shared, table = condense(text_table(comparison))
    rows = comparison.rows
    groups = rows.groupby(SETTING)["mean"]
    best = set(groups.idxmax()[groups.size() > 1])
    bold = ["textbf:--rwrap" if row in best else "" for row in table.index]
    style = table.style.hide(axis="index").apply(lambda column: bold, subset=[f"{comparison.measure} %"])
    style = style.format(_latex_cell, escape="latex").format_index(_latex_cell, escape="latex", axis=1)
    kinds = "".join("r" if right else "l" for right in numeric_columns(table))
    lines = style.to_latex(hrules=True, column_format=kinds).splitlines()
    first = lines.index(r"\midrule") + 1
    changes = (rows[SETTING[:4]] != rows[SETTING[:4]].shift()).any(axis=1)
    for index in reversed(changes[changes].index[1:]):
        lines.insert(first + index, r"\midrule")
    facts = filter(None, [" ".join(title.split()), *shared])
    return "\n".join([f"% {', '.join(facts)}; needs \\usepackage{{booktabs}}", *lines, ""])


def students_csv(comparison: Comparison) -> str:
    """Write a line for every student: the run's folder, the varied keys, the fields of a result; mappings are JSON."""
    students = comparison.students.rename(columns={"pool": TEACHERS})
    runs = [comparison.runs[index] for index in students.run]
    folders = students.pop("run").map(dict(enumerate(folder_names(comparison.runs))))
    for name in ("fingerprints", "cost", "divergence"):
        students[name] = students[name].map(lambda one: json.dumps(one, sort_keys=True))
    keys = {_free_name(key, students): [value_text(run.value(key)) for run in runs] for key in comparison.values}
    return pd.DataFrame({"run": folders, **keys}).join(students).to_csv(index=False, lineterminator="\n")


def show(*folders: Path, title: str = "", screen: Console | None = None) -> None:
    """Print the table and the sentences of some runs or sweeps; what all rows share moves into the title.

    Where the console is too narrow for it, the columns that can be missed become one, with their names in its cells.
    """
    comparison, screen = compare(read_runs(folders)), screen or get_console()
    shared, table = condense(text_table(comparison))
    heading = ", ".join([title or ", ".join(dict.fromkeys(run.name for run in comparison.runs)), *shared])
    first = comparison.first_method(comparison.rows)
    styles = ["bold" if method == first else None for method in comparison.rows.method]
    shown = rich_table(table, heading, styles)
    if screen.measure(shown, options=screen.options.update(max_width=1000)).minimum > screen.width:
        kept = [name for name in table if name in ALWAYS or name == "against random"]
        rest = table.drop(columns=kept)
        short = [name.rpartition(".")[2].replace("_", " ") for name in rest]
        names = [one if short.count(one) == 1 else name for one, name in zip(short, rest, strict=True)]
        lines = [zip(names, line, strict=True) for line in rest.to_numpy().tolist()]
        words = [", ".join(f"{name} {cell}" for name, cell in line if cell not in ("", "–")) for line in lines]
        shown = rich_table(table[kept].assign(settings=words), heading, styles)
    screen.print(Group(shown, *map(escape, sentences(comparison))))


def rich_table(table: pd.DataFrame, title: str, styles: Sequence[str | None] = ()) -> Table:
    """Draw a table of text for a console, with a style for each row."""
    drawn = Table(title=escape(title), box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
    for name, right in zip(table, numeric_columns(table), strict=True):
        widest = int(table[name].str.len().max())
        heading = name.rpartition(".")[2].replace("_", " ").replace(" ", "\n") if widest < len(name) else name
        align: Any = "right" if right else "left"
        drawn.add_column(escape(heading), justify=align, no_wrap=right, overflow="fold", min_width=min(widest, 5))
    for line, style in zip_longest(table.to_numpy().tolist(), styles):
        drawn.add_row(*map(escape, line), style=style)
    return drawn


def _free_name(key: str, columns: Any) -> str:
    return f"{key} (config)" if key in columns else key


def _latex_cell(cell: str) -> str:
    signed = cell[:1] in ("+", "-") and cell[1:2].isdigit()
    for letter, code in LATEX.items():
        cell = cell.replace(letter, code)
    return f"${cell}$" if signed else cell


def _signed(points: float) -> str:
    """Write a signed number of points; what rounds to nothing is ``+0.0`` from either side."""
    return "" if math.isnan(points) else f"{round(points, 1) + 0.0:+.1f}"


def _labels_mb(row: Any) -> str:
    """Size of the labels on disk in MB (10^6 bytes); empty where there are none."""
    size = row.cost.get("labels_mb", 0.0) if row.labels != "hard" else 0.0
    return f"{size:.3g}" if size else ""


def _seconds_before(row: Any) -> str:
    """Duration of pool, synthesis and labels, as far as these students needed them; empty where that is unknown."""
    needed = {"labels_seconds"} if row.labels != "hard" else set()
    if needed or "synthesis_seconds" in row.cost:
        needed |= {"pool_seconds", "synthesis_seconds"} & row.cost.keys()
    return f"{sum(row.cost[name] for name in needed):.0f}" if needed <= row.cost.keys() else ""
