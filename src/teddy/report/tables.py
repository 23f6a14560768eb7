"""From students to a table: mean ± sample standard deviation over seeds, and what may honestly be said about
it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.markup import escape

from teddy.report.ledger import Result

if TYPE_CHECKING:
    from rich.table import Table

OURS = "teddy"
BASELINE = "random"
NAMES = {"teddy": "Teddy", "random": "random real images", "converged": "a single converged teacher"}
ENOUGH_SEEDS = 3


@dataclass(frozen=True)
class Group:
    """One row of the table: the same setting under several seeds.

    Attributes:
        top1: accuracies in percent, by seed.
        repeats: runs beyond the first of a seed; they come from settings that the table's columns do not tell
            apart.
    """

    dataset: str
    ipc: int
    method: str
    pool: str
    labels: str
    protocol: str
    student: str
    top1: tuple[float, ...]
    repeats: int = 0

    @property
    def mean(self) -> float:
        return statistics.fmean(self.top1)

    @property
    def std(self) -> float | None:
        """Sample standard deviation (n - 1) over the runs, or None with a single run."""
        return statistics.stdev(self.top1) if len(self.top1) > 1 else None

    @property
    def setting(self) -> tuple[str, int, str, str, str]:
        """What two methods must share to be compared."""
        return self.dataset, self.ipc, self.protocol, self.student, self.labels

    def accuracy(self) -> str:
        """``61.2 ± 0.4``, or ``61.2`` when one run leaves the spread unknown."""
        return f"{self.mean:.1f}" if self.std is None else f"{self.mean:.1f} ± {self.std:.1f}"

    def paper(self, values: Mapping[str, float]) -> float | None:
        """The published accuracy: under ``method/student/protocol`` or, for all of them, ``method``."""
        return values.get(f"{self.method}/{self.student}/{self.protocol}", values.get(self.method))


def group(rows: Sequence[Result]) -> list[Group]:
    """Groups students by setting, method and pool, and puts the groups in the table's order.

    The order is protocol, student, then the methods with Teddy first and random real images last. A row that
    repeats an earlier one (same setting, seed and artifacts) replaces it.
    """
    latest = {(*_key(row), row.seed, tuple(sorted(row.fingerprints.items()))): row for row in rows}
    members: dict[tuple, list[Result]] = {}
    for row in latest.values():
        members.setdefault(_key(row), []).append(row)
    groups = []
    for some in members.values():
        some.sort(key=lambda row: row.seed)
        first, repeats = some[0], len(some) - len({row.seed for row in some})
        groups.append(
            Group(
                dataset=first.dataset,
                ipc=first.ipc,
                method=first.method,
                pool=first.pool,
                labels=first.labels,
                protocol=first.protocol,
                student=first.student,
                top1=tuple(row.top1 for row in some),
                repeats=repeats,
            )
        )
    return sorted(groups, key=_order)


def _key(row: Result) -> tuple:
    return row.dataset, row.ipc, row.protocol, row.student, row.labels, row.method, row.pool


def _order(item: Group) -> tuple:
    place = {OURS: 0, BASELINE: 2}.get(item.method, 1)
    return item.dataset, item.protocol, item.student, item.ipc, item.labels, place, item.method, item.pool


def baseline_of(item: Group, groups: Sequence[Group]) -> Group | None:
    """Random real images under the same setting, with the same pool's labels where several pools were run."""
    fitting = [other for other in groups if other.method == BASELINE and other.setting == item.setting]
    return next((other for other in fitting if other.pool == item.pool), fitting[0] if len(fitting) == 1 else None)


def several_pools(groups: Sequence[Group]) -> bool:
    """Whether some method appears under several pools in one setting, so that only the pool tells its rows apart."""
    return len({(item.setting, item.method) for item in groups}) < len(groups)


def cells(groups: Sequence[Group], paper: Mapping[str, float]) -> tuple[list[str], list[list[str]]]:
    """The table as text: column heads and rows; dataset and pool are columns only where they tell rows apart."""
    several_datasets = len({item.dataset for item in groups}) > 1
    pools = several_pools(groups)
    head = ["dataset"] * several_datasets + ["method"] + ["pool"] * pools
    head += ["labels", "protocol", "student", "IPC", "seeds", "top-1 %", "against random", "paper"]
    lines = []
    for item in groups:
        random, published = baseline_of(item, groups), item.paper(paper)
        line = [item.dataset] * several_datasets + [item.method] + [item.pool] * pools
        line += [item.labels, item.protocol, item.student, str(item.ipc)]
        line.append(
            f"{len(item.top1)} runs of {len(item.top1) - item.repeats}" if item.repeats else str(len(item.top1))
        )
        line.append(item.accuracy())
        line.append("" if random is None or random is item else f"{item.mean - random.mean:+.1f}")
        line.append("" if published is None else f"{published:.1f}")
        lines.append(line)
    return head, lines


def markdown(groups: Sequence[Group], paper: Mapping[str, float] | None = None) -> str:
    """The table as a GitHub pipe table."""
    head, lines = cells(groups, paper or {})
    rule = ["---:" if is_number(name) else "---" for name in head]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, rule, *escaped])


def rich_table(groups: Sequence[Group], paper: Mapping[str, float] | None = None, title: str = "") -> Table:
    """The same table for the console (``rich.print(rich_table(groups))``).

    A console is narrow: what is the same in every row stands in the title, and an empty column is left out.
    """
    from rich import box
    from rich.table import Table

    head, lines = cells(groups, paper or {})
    columns = list(zip(*lines, strict=True)) if lines else [() for _ in head]
    shared = {
        name: values[0]
        for name, values in zip(head, columns, strict=True)
        if name in {"labels", "protocol", "student", "IPC"} and len(set(values)) == 1
    }
    facts = [title, *(f"{name} {value}" for name, value in shared.items())]
    table = Table(title=", ".join(filter(None, facts)) or None, box=box.SIMPLE_HEAD, title_justify="left")
    kept = [index for index, name in enumerate(head) if name not in shared and any(columns[index])]
    for index in kept:
        right = is_number(head[index])
        table.add_column(head[index], justify="right" if right else "left", no_wrap=right, overflow="fold")
    for item, line in zip(groups, lines, strict=True):
        table.add_row(*(escape(line[index]) for index in kept), style="bold" if item.method == OURS else None)
    return table


def is_number(column: str) -> bool:
    """Whether a column holds numbers and is set flush right."""
    return column in {"IPC", "seeds", "top-1 %", "against random", "paper"}


def sentences(groups: Sequence[Group]) -> list[str]:
    """What the table says about Teddy, setting by setting and rival by rival, favourable or not."""
    said = []
    for ours in (item for item in groups if item.method == OURS):
        where = f"{ours.dataset}, IPC {ours.ipc}, {ours.student}, {ours.protocol} protocol, {ours.labels} labels"
        if any(item.method == OURS and item.setting == ours.setting and item is not ours for item in groups):
            where += f", pool {ours.pool}"
        rivals = [item for item in groups if item.setting == ours.setting and item.method != OURS]
        random = baseline_of(ours, groups)
        told = [rival for rival in rivals if rival.method != BASELINE or rival is random]
        said += [f"{where}: {_compare(ours, rival)}" for rival in told]
        if random is None:
            missing = "random real images were not evaluated under the same labels"
            said.append(f"{where}: {missing}, so {ours.accuracy()} stands without a baseline.")
    return said


def _compare(ours: Group, rival: Group) -> str:
    name = NAMES.get(rival.method, rival.method)
    numbers = f"{ours.accuracy()} against {rival.accuracy()}"
    if ours.std is None or rival.std is None:
        verb = "is above" if ours.mean > rival.mean else "is not above"
        return f"Teddy {verb} {name} in a single run ({numbers}); the spread is unknown."
    spread, gain = math.hypot(ours.std, rival.std), ours.mean - rival.mean
    few = min(len(ours.top1), len(rival.top1)) < ENOUGH_SEEDS
    caution = f" Fewer than {ENOUGH_SEEDS} seeds: take it as a hint." if few else ""
    if gain > spread:
        more = f"{gain:.1f} points, more than the spread of {spread:.1f}"
        return f"Teddy beats {name} by {more} ({numbers}).{caution}"
    if gain >= -spread:
        return f"Teddy and {name} differ by no more than the spread of {spread:.1f} ({numbers}).{caution}"
    return f"Teddy does not beat {name} here: {numbers}.{caution}"
