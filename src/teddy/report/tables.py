"""From students to a table: mean ± sample standard deviation over seeds, and what may honestly be said about
it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from teddy.report import formats
from teddy.report.ledger import Result

if TYPE_CHECKING:
    from rich.table import Table

OURS = "teddy"
BASELINE = "random"
NAMES = {
    "teddy": "Teddy",
    "sre2l": "SRe2L",
    "converged": "a single converged teacher",
    "random": "random real images",
}
SHORT = {"teddy": "Teddy", "sre2l": "SRe2L", "converged": "converged teacher", "random": "real images"}
"""Names for places where there is little room."""
ENOUGH_SEEDS = 3

Published = Mapping[str, Sequence[float]]
"""The paper's accuracies in percent: ``[mean, std]`` or ``[mean]`` by ``method/student/protocol/ipcN``."""


def place_of(method: str) -> int:
    """Where a method stands in tables and legends: Teddy first, random real images last."""
    return {OURS: 0, "sre2l": 1, BASELINE: 3}.get(method, 2)


@dataclass(frozen=True)
class Group:
    """One row of the table: the same setting under several seeds.

    Attributes:
        top1: accuracies in percent, by seed.
        repeats: runs beyond the first of a seed; they come from settings that the table's columns do not tell
            apart.
        cost, divergence: as in :class:`teddy.report.ledger.Result`, each the mean over the students that have it.
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
    cost: dict[str, float] = field(default_factory=dict)
    divergence: dict[str, float] = field(default_factory=dict)

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
        return with_spread(self.mean, self.std)

    def seeds(self) -> str:
        """How many runs there are, and of how many seeds if that is not the same."""
        runs = len(self.top1)
        return f"{runs} runs of {runs - self.repeats}" if self.repeats else str(runs)

    def published(self, values: Published) -> tuple[float, float | None] | None:
        """The paper's mean and standard deviation (None if it gives none) in the very same setting."""
        found = values.get(f"{self.method}/{self.student}/{self.protocol}/ipc{self.ipc}")
        return (found[0], found[1] if len(found) > 1 else None) if found else None

    def paper(self, values: Published) -> str | None:
        """The paper's accuracy as text, e.g. ``34.1 ± 0.1``."""
        found = self.published(values)
        return with_spread(*found) if found else None


def with_spread(mean: float, std: float | None) -> str:
    """An accuracy as text: ``61.2 ± 0.4``, or ``61.2`` without a known spread."""
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"


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
                cost=_means([row.cost for row in some]),
                divergence=_means([row.divergence for row in some]),
            )
        )
    return sorted(groups, key=_order)


def _key(row: Result) -> tuple:
    return row.dataset, row.ipc, row.protocol, row.student, row.labels, row.method, row.pool


def _means(mappings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for one in mappings for name in one)
    return {name: statistics.fmean(one[name] for one in mappings if name in one) for name in names}


def _order(item: Group) -> tuple:
    place = place_of(item.method)
    return item.dataset, item.protocol, item.student, item.ipc, item.labels, place, item.method, item.pool


def baseline_of(item: Group, groups: Sequence[Group]) -> Group | None:
    """Random real images under the same setting, with the same pool's labels where several pools were run."""
    fitting = [other for other in groups if other.method == BASELINE and other.setting == item.setting]
    return next((other for other in fitting if other.pool == item.pool), fitting[0] if len(fitting) == 1 else None)


def several_pools(groups: Sequence[Group]) -> bool:
    """Whether some method appears under several pools in one setting, so that only the pool tells its rows apart."""
    return len({(item.setting, item.method) for item in groups}) < len(groups)


def cells(groups: Sequence[Group], paper: Published) -> tuple[list[str], list[list[str]]]:
    """The table as text: column heads and rows; dataset and pool are columns only where they tell rows apart."""
    several_datasets = len({item.dataset for item in groups}) > 1
    pools = several_pools(groups)
    head = ["dataset"] * several_datasets + ["method"] + ["pool"] * pools
    head += ["labels", "protocol", "student", "IPC", "seeds", formats.ACCURACY, "against random", "paper"]
    lines = []
    for item in groups:
        line = [item.dataset] * several_datasets + [item.method] + [item.pool] * pools
        line += [item.labels, item.protocol, item.student, str(item.ipc), item.seeds(), item.accuracy()]
        gain = against_random(item, groups)
        line.append("" if gain is None else difference(gain))
        line.append(item.paper(paper) or "")
        lines.append(line)
    return head, lines


def against_random(item: Group, groups: Sequence[Group]) -> float | None:
    """Points above random real images; None for those themselves and without them."""
    random = baseline_of(item, groups)
    return None if random is None or random is item else item.mean - random.mean


def difference(points: float) -> str:
    """A signed number of points; what rounds to nothing is ``+0.0`` from either side."""
    return f"{round(points, 1) + 0.0:+.1f}"


def best(groups: Sequence[Group]) -> set[int]:
    """The places of the groups with the highest mean of their setting, where there is something to compare with."""
    places: dict[tuple, list[int]] = {}
    for place, item in enumerate(groups):
        places.setdefault(item.setting, []).append(place)
    rivals = [some for some in places.values() if len(some) > 1]
    return {max(some, key=lambda place: groups[place].mean) for some in rivals}


def markdown(groups: Sequence[Group], paper: Published | None = None) -> str:
    """The table as a GitHub pipe table."""
    return formats.markdown(*cells(groups, paper or {}))


def latex(groups: Sequence[Group], paper: Published | None = None, title: str = "") -> str:
    """The table for LaTeX, the best of each setting in bold type, a rule between students and protocols."""
    blocks = [(item.dataset, item.protocol, item.student, item.ipc) for item in groups]
    rules = {place for place in range(1, len(blocks)) if blocks[place] != blocks[place - 1]}
    return formats.latex(*cells(groups, paper or {}), bold=best(groups), rules=rules, comment=title)


def rich_table(groups: Sequence[Group], paper: Published | None = None, title: str = "") -> Table:
    """The same table for the console (``rich.print(rich_table(groups))``)."""
    ours = {place for place, item in enumerate(groups) if item.method == OURS}
    return formats.console(*cells(groups, paper or {}), bold=ours, title=title)


def sentences(groups: Sequence[Group]) -> list[str]:
    """What the table says about Teddy, setting by setting and rival by rival, favourable or not.

    Where a setting has no Teddy, every other method is compared with random real images.
    """
    said = []
    led = {item.setting for item in groups if item.method == OURS}
    for lead in groups:
        if lead.method == BASELINE or (lead.method != OURS and lead.setting in led):
            continue
        where = f"{lead.dataset}, IPC {lead.ipc}, {lead.student}, {lead.protocol} protocol, {lead.labels} labels"
        if any(item.method == lead.method and item.setting == lead.setting and item is not lead for item in groups):
            where += f", pool {lead.pool}"
        rivals = [item for item in groups if item.setting == lead.setting and item.method != OURS]
        random = baseline_of(lead, groups)
        told = [rival for rival in rivals if rival is random or (lead.method == OURS and rival.method != BASELINE)]
        said += [f"{where}: {_compare(lead, rival)}" for rival in told]
        if random is None:
            missing = "random real images were not evaluated under the same labels"
            said.append(f"{where}: {missing}, so {lead.accuracy()} stands without a baseline.")
    return said


def _compare(lead: Group, rival: Group) -> str:
    subject, name = NAMES.get(lead.method, lead.method), NAMES.get(rival.method, rival.method)
    subject = subject[0].upper() + subject[1:]
    numbers = f"{lead.accuracy()} against {rival.accuracy()}"
    if lead.std is None or rival.std is None:
        verb = "is above" if lead.mean > rival.mean else "is not above"
        return f"{subject} {verb} {name} in a single run ({numbers}); the spread is unknown."
    spread, gain = math.hypot(lead.std, rival.std), lead.mean - rival.mean
    few = min(len(lead.top1), len(rival.top1)) < ENOUGH_SEEDS
    caution = f" Fewer than {ENOUGH_SEEDS} seeds: take it as a hint." if few else ""
    if gain > spread:
        more = f"{gain:.1f} points, more than the spread of {spread:.1f}"
        return f"{subject} beats {name} by {more} ({numbers}).{caution}"
    if gain >= -spread:
        return f"{subject} and {name} differ by no more than the spread of {spread:.1f} ({numbers}).{caution}"
    return f"{subject} does not beat {name} here: {numbers}.{caution}"
