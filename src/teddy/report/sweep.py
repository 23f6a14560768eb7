"""Several runs in one table: which keys vary between them, and a row for every method under every setting."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from teddy.report import formats, tables
from teddy.report.ledger import Result
from teddy.report.runs import Run
from teddy.report.tables import Group

if TYPE_CHECKING:
    from rich.table import Table

IPC = "synthesis.ipc"
STUDENTS, PROTOCOL, SEED = "evaluation.students", "evaluation.protocol", "seed"
SHOWN = (IPC, STUDENTS, PROTOCOL)
"""Keys whose values every row has in a column anyway."""
LENGTHS = ("synthesis.iterations", "synthesis.plateau")
"""Keys that say how long synthesis may take: beside them stands what was spent before the students."""
UNSAID = ("hydra", "sweep", "launch", "store", "logger")
"""Keys that say where work goes, not what is done."""
ANY, NOT_GIVEN = "any", "–"
SEEDS = ("seeds",)

Value = int | float | str | bool | None

NULL_MEANS: dict[str, Value] = {"labels.top_k": "all"}
"""What null says of a key where it is a value like any other."""


@dataclass(frozen=True)
class Row:
    """One row of the table: a group of students, and the settings that it belongs to.

    Attributes:
        setting: by varied key, the values under which these very students stand; more than one where the key does not
            matter to them, such as the number of teachers per block to random real images.
        against: points above random real images under the same setting, None without them.
        published: the paper's mean and standard deviation, None without them.
        run: the first run that holds the row.
    """

    setting: Mapping[str, tuple[Value, ...]]
    group: Group
    against: float | None
    published: tuple[float, float | None] | None
    run: Run


@dataclass(frozen=True)
class Sweep:
    """The table of several runs.

    Attributes:
        values: the values of each varied key, in the order of the runs.
    """

    runs: list[Run]
    values: dict[str, tuple[Value, ...]]
    rows: list[Row]

    def any_of(self, row: Row, key: str) -> bool:
        """Whether a row stands for all values of a key, so that the key does not matter to it."""
        return len(row.setting[key]) == len(self.values[key])


def value_of(run: Run, key: str) -> Value:
    """What a key was in a run: the resolved setting, or the word of the command line for a group such as ``pool``.

    A run that was recorded without its command line has its name for ``experiment``.
    """
    if key in run.settings:
        value = run.settings[key]
        return NULL_MEANS.get(key) if value is None else value
    if key in run.overrides:
        return _number(run.overrides[key])
    return run.name if key in ("name", "experiment") else None


def varied_keys(runs: Sequence[Run]) -> list[str]:
    """The keys that were given to some run by command line or sweep and differ between runs, in the order given.

    Keys that only follow from others by interpolation do not count. Runs that differ in no such key, but in their names, are
    told apart by ``name``.
    """
    given = dict.fromkeys(key for run in runs for key in run.overrides if key.partition(".")[0] not in UNSAID)
    varied = [key for key in given if len({value_of(run, key) for run in runs}) > 1]
    return varied or ["name"] * (len({run.name for run in runs}) > 1)


def collect(runs: Sequence[Run]) -> Sweep:
    """Puts runs into one table; runs of the same settings share their rows.

    Students that are the same under all values of a key (random real images do not depend on the teachers per block) are
    one row, not one per run.
    """
    keys = varied_keys(runs)
    places: dict[tuple[Value, ...], list[Run]] = {}
    for run in runs:
        place = tuple(value_of(run, key) for key in keys)
        places.setdefault(place, []).append(run)
    values = {key: tuple(dict.fromkeys(place[index] for place in places)) for index, key in enumerate(keys)}
    alike: dict[tuple, list[tuple[tuple[Value, ...], Row]]] = {}
    for place, some in places.items():
        students = [row for run in some for row in run.rows]
        groups = tables.group(students)
        paper = {key: value for run in reversed(some) for key, value in run.paper.items()}
        for group in groups:
            setting = {key: (value,) for key, value in zip(keys, place, strict=True)}
            gain, published = tables.against_random(group, groups), group.published(paper)
            row = Row(setting, group, gain, published, some[0])
            alike.setdefault(_same_students(group, students) or (place, id(row)), []).append((place, row))
    rows = [row for some in alike.values() for row in _merge(keys, some, list(places))]
    groups = [row.group for row in rows]
    for index, row in enumerate(rows):
        if row.against is None and row.group.method != tables.BASELINE:  # the only baseline may come from another run
            rows[index] = dataclasses.replace(row, against=tables.against_random(row.group, groups))
    sweep = Sweep(list(runs), values, rows)
    rows.sort(key=lambda row: _order(sweep, row))
    return sweep


def _same_students(group: Group, students: Sequence[Result]) -> tuple | None:
    """What two groups share if they are the very same trained students; None if these have no fingerprints."""
    some = [
        row
        for row in students
        if (row.method, row.pool, *_setting(row)) == (group.method, group.pool, *_setting(group))
    ]
    prints = sorted({row.fingerprints.get("student", "") for row in some})
    return (group.method, *_setting(group), *prints) if all(prints) else None


def _setting(item: Group | Result) -> tuple[str, int, str, str, str]:
    return item.dataset, item.ipc, item.protocol, item.student, item.labels


def _merge(
    keys: Sequence[str], alike: Sequence[tuple[tuple[Value, ...], Row]], places: Sequence[tuple[Value, ...]]
) -> list[Row]:
    """One row for the same students under several settings, if it can say which: all there are, or all combinations."""
    stands = list(dict.fromkeys(place for place, _ in alike))
    spread = {key: tuple(dict.fromkeys(place[index] for place in stands)) for index, key in enumerate(keys)}
    combined = set(itertools.product(*spread.values()))
    if len(stands) == 1 or not (set(stands) == set(places) or set(stands) == combined):
        return [row for _, row in alike]
    first = alike[0][1]
    pools, gains = {row.group.pool for _, row in alike}, {row.against for _, row in alike}
    group = first.group if len(pools) == 1 else dataclasses.replace(first.group, pool=ANY)
    return [dataclasses.replace(first, setting=spread, group=group, against=gains.pop() if len(gains) == 1 else None)]


def _order(sweep: Sweep, row: Row) -> tuple:
    item = row.group
    free = any(sweep.any_of(row, key) for key in sweep.values)
    places = [sweep.values[key].index(row.setting[key][0]) for key in sweep.values]
    return (
        item.dataset,
        item.protocol,
        item.student,
        item.labels,
        free,
        places,
        tables.place_of(item.method),
        item.method,
    )


def cells(sweep: Sweep) -> tuple[list[str], list[list[str]]]:
    """The table as text: column heads and rows, with a column for each key that varies and has none anyway."""
    groups = [row.group for row in sweep.rows]
    datasets = len({item.dataset for item in groups}) > 1
    pools = any(
        len({item.pool for item in groups if (item.method, item.labels) == (one.method, one.labels)}) > 1
        for one in groups
    )
    keys = [key for key in sweep.values if key not in SHOWN]
    head = ["dataset"] * datasets + ["method", *keys] + ["pool"] * pools
    sizes = _labels_vary_in_size(groups)
    times = _lengths_differ(sweep)
    head += ["labels", "protocol", "student", "IPC", "seeds"] + [formats.LABELS_MB] * sizes + [formats.SECONDS] * times
    head += [formats.ACCURACY, "against random", "paper"]
    lines = []
    for row in sweep.rows:
        item = row.group
        line = [item.dataset] * datasets + [item.method, *(said(sweep, row, key) for key in keys)] + [item.pool] * pools
        line += [item.labels, item.protocol, item.student, str(item.ipc), item.seeds()]
        line += [megabytes_of_labels(item)] * sizes + [seconds_before(item)] * times + [item.accuracy()]
        line.append("" if row.against is None else tables.difference(row.against))
        line.append("" if row.published is None else tables.with_spread(*row.published))
        lines.append(line)
    return head, lines


def _lengths_differ(sweep: Sweep) -> bool:
    """Whether synthesis takes more iterations in one row than in another, between runs or between the methods of one."""
    own = (
        value
        for run in sweep.runs
        for key, value in run.settings.items()
        if key.startswith("baselines.") and key.endswith(".iterations")
    )
    return any(key in LENGTHS for key in sweep.values) or any(value is not None for value in own)


def _labels_vary_in_size(groups: Sequence[Group]) -> bool:
    """Whether labels of equally many images of one dataset take different space on disk."""
    sizes: dict[tuple[str, int], set[str]] = {}
    for item in groups:
        sizes.setdefault((item.dataset, item.ipc), set()).add(megabytes_of_labels(item))
    return any(len(some - {""}) > 1 for some in sizes.values())


def megabytes_of_labels(item: Group) -> str:
    """What stored labels take on disk, in MB (10^6 bytes); empty where students had none or it is not known."""
    size = item.cost.get("labels_mb", 0.0) if item.labels == "stored" else 0.0
    return f"{size:.3g}" if size else ""


def seconds_before(item: Group) -> str:
    """How long pool, synthesis and labels took, as far as these students needed them; empty where that is not known."""
    needed = {"pool_seconds", "labels_seconds"} if item.labels != "hard" else set()
    if "synthesis_seconds" in item.cost:
        needed |= {"pool_seconds", "synthesis_seconds"}
    return f"{sum(item.cost[name] for name in needed):.0f}" if needed <= item.cost.keys() else ""


def condensed(sweep: Sweep) -> tuple[dict[str, str], list[str], list[list[str]]]:
    """What all rows share, and the table without it; see :func:`teddy.report.formats.condense`."""
    return formats.condense(*cells(sweep), also=SEEDS)


def said(sweep: Sweep, row: Row, key: str) -> str:
    """A row's setting of one key as text: a value, several, or ``any``."""
    return ANY if sweep.any_of(row, key) else ", ".join(text(value) for value in row.setting[key])


def text(value: Value) -> str:
    """A setting's value as people read it."""
    if value is None:
        return NOT_GIVEN
    return f"{value:g}" if isinstance(value, float) else str(value)


def short_key(key: str) -> str:
    """A key in a legend: ``teachers per block`` for ``synthesis.teachers_per_block``."""
    return "IPC" if key == IPC else key.rpartition(".")[2].replace("_", " ")


def on_scale(sweep: Sweep, key: str) -> bool:
    """Whether a key's values are numbers that mean more than a name; a seed's do not."""
    return key != SEED and sum(map(is_number, sweep.values[key])) > 1


def is_number(value: Value) -> bool:
    """Whether a setting's value has a place on an axis."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def markdown(sweep: Sweep) -> str:
    """The table as a GitHub pipe table, without the columns that say the same in every row (:func:`shared`)."""
    return formats.markdown(*condensed(sweep)[1:])


def shared(sweep: Sweep) -> str:
    """What all rows share, e.g. ``protocol paper, student resnet18``."""
    return ", ".join(f"{name} {value}" for name, value in condensed(sweep)[0].items())


def latex(sweep: Sweep, title: str = "") -> str:
    """The table for LaTeX: the best of each dataset, IPC, student and protocol in bold type, a rule where these change."""
    _, head, lines = condensed(sweep)
    groups = [row.group for row in sweep.rows]
    blocks = [(item.dataset, item.protocol, item.student, item.labels) for item in groups]
    rules = {place for place in range(1, len(blocks)) if blocks[place] != blocks[place - 1]}
    comment = ", ".join(filter(None, (title, shared(sweep))))
    return formats.latex(head, lines, bold=tables.best(groups), rules=rules, comment=comment)


def rich_table(sweep: Sweep, title: str = "") -> Table:
    """The table for the console."""
    ours = {place for place, row in enumerate(sweep.rows) if row.group.method == tables.OURS}
    return formats.console(*cells(sweep), bold=ours, title=title, also=SEEDS)


def students_csv(sweep: Sweep) -> str:
    """A line for every student of every run: the run's folder, the varied keys, then the fields of a result."""
    keys = list(sweep.values)
    lines: list[tuple[dict[str, str], Result]] = []
    for run in sweep.runs:
        setting = {"run": run.folder.resolve().name}
        setting |= {key: text(value_of(run, key)) for key in keys}
        lines += [(setting, row) for row in run.rows]
    return formats.students_csv(lines)


def _number(word: str) -> Value:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
