"""Several runs compared: the keys that vary between them, and one row for every method under every setting."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd  # type: ignore[import-untyped]

from teddy.report.runs import Run, Value

ENOUGH_SEEDS = 3
ANY = "any"
SETTING = ["dataset", "protocol", "student", "labels", "ipc", "classes"]  # in which two rows must agree to be compared
MEASURES = {"top1": "top-1", "map50": "mAP50"}  # for people, by Result.measure
NOT_COMPARED = ("hydra", "sweep", "search", "launch", "store", "logger")  # where work is done


@dataclass(frozen=True)
class Comparison:
    """The table of one or several runs."""

    runs: list[Run]
    values: dict[str, list[Value]]  # of each varied key, in the order of the runs
    students: pd.DataFrame  # one row per student of a run: the fields of a Result, and run, the run's index
    rows: pd.DataFrame
    """One per method, pool and setting, in the table's order: the columns of :func:`summarize` and ``setting`` (by varied key,
    the values that these very students belong to; more than one where the key does not matter to them), ``against`` (points
    above random real images under the same setting, or NaN), ``paper`` (published [mean, std], [mean] or None), and ``panel``
    (title of the panel of a chart)."""

    @property
    def own_keys(self) -> list[str]:
        """Varied keys whose values no other column of a table has."""
        return [key for key in self.values if not has_column(key)]

    @property
    def keys_beside_ipc(self) -> list[str]:
        """Those of ``own_keys`` that tell rows of one IPC apart: a method's own numbers may follow its IPC."""
        shared = [key for key in self.own_keys if not key.startswith("methods.")]
        columns = {key: self.rows.setting.map(lambda one, key=key: one[key]) for key in self.own_keys}
        places = self.rows[["method", *SETTING]].assign(**columns).groupby(["method", *SETTING, *shared])
        return [key for key in self.own_keys if key in shared or places[key].nunique().max() > 1]

    @property
    def methods(self) -> list[str]:
        """Names of all methods in the order typed."""
        return list(dict.fromkeys(name for run in self.runs for name in run.methods))

    @property
    def measure(self) -> str:
        """Name the measure of the students' accuracies."""
        return " or ".join(MEASURES[name] for name in self.students.measure.unique())

    @property
    def axis(self) -> str:
        """Label an axis of accuracies."""
        return f"{self.measure} (%)"

    def first_method(self, rows: pd.DataFrame) -> str | None:
        """Find the method typed first among some rows, baselines aside unless there is nothing else."""
        present = set(rows[~rows.baseline].method) or set(rows.method)
        return next((name for name in self.methods if name in present), None)

    def any_of(self, row: Any, key: str) -> bool:
        """Whether a row covers all values of a key, so that the key does not matter to it."""
        return len(row.setting[key]) == len(self.values[key])

    def text(self, row: Any, key: str) -> str:
        """Write a row's setting of one key: a value, several, or ``any``."""
        return ANY if self.any_of(row, key) else ", ".join(map(value_text, row.setting[key]))

    def texts(self, row: Any, keys: Sequence[str]) -> list[str]:
        """List the settings that matter to a row, for a legend: ``["teachers per block 3"]``."""
        return [f"{short_key(key)} {self.text(row, key)}" for key in keys if not self.any_of(row, key)]

    def numeric(self, key: str) -> bool:
        """Whether the values of a key are numbers with a meaning; those of a seed are not."""
        return not is_seed(key) and sum(map(is_number, self.values[key])) > 1

    def distinction(self, row: Any) -> str:
        """Distinguish a row from others of its method in the same setting, e.g. ``pool prior``; empty if it is alone."""
        if sum(_equal(self.rows, row, [*SETTING, "method"])) == 1:
            return ""
        return ", ".join(self.texts(row, self.own_keys)) or f"pool {row.pool}"

    def partners(self, row: Any, candidates: pd.DataFrame) -> pd.DataFrame:
        """Select the candidates in a row's setting; if some share its varied values, only these, and then likewise its pool."""
        found = candidates[_equal(candidates, row, SETTING)]
        overlap = [all(set(one[key]) & set(row.setting[key]) for key in one) for one in found.setting]
        found = found[overlap] if any(overlap) else found
        return found[found.pool == row.pool] if (found.pool == row.pool).any() else found


def compare(runs: Sequence[Run]) -> Comparison:
    """Put runs into one table; runs of the same settings share their rows.

    Students that are the same under all values of a key, by their fingerprints, are one row, not one per run.
    """
    keys = varied_keys(runs)
    values = {key: list(dict.fromkeys(run.value(key) for run in runs)) for key in keys}
    results = [pd.DataFrame(run.results).assign(run=index) for index, run in enumerate(runs)]
    students = pd.concat(results, ignore_index=True)
    settings = [_setting(runs[row.run], row.method, keys) for row in students.itertuples()]
    distinct = list(dict.fromkeys(settings))
    rows = summarize(students.assign(setting_index=[*map(distinct.index, settings)]), ["setting_index"])
    prefix = rows.dataset + ": " if rows.dataset.nunique() > 1 else ""
    rows["panel"] = prefix + rows.apply(evaluation_text, axis=1)
    paper = [runs[students.run[settings.index(one)]].paper for one in distinct]
    names = rows.dataset.str.cat([rows.method, rows.student, rows.protocol, "ipc" + rows.ipc.astype(str)], sep="/")
    rows["paper"] = [paper[index].get(name) for index, name in zip(rows.setting_index, names, strict=True)]
    result = Comparison(list(runs), values, students, _merge(rows, distinct, runs, values))
    result.rows["against"] = [_against(result, row) for row in result.rows.itertuples()]

    def order(row: Any) -> tuple:
        free = any(result.any_of(row, key) for key in keys if matters(key, row.method))
        indices = [values[key].index(row.setting[key][0]) for key in keys]
        setting = [getattr(row, name) for name in SETTING]
        return *setting[:4], free, indices, *setting[4:], result.methods.index(row.method)

    ordered = sorted(result.rows.itertuples(), key=order)
    return dataclasses.replace(result, rows=result.rows.loc[[row.Index for row in ordered]].reset_index(drop=True))


def summarize(students: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """One row per setting, method and pool, of students with the fields of ``Result``; ``by`` are further columns to group by.

    A student of the same seed and artifacts as an earlier one replaces it. Beside the columns grouped by there are ``title``,
    ``baseline``, ``top1`` (accuracies in percent by seed), ``mean``, ``std`` (sample standard deviation, NaN for a single
    student), ``f1`` and ``coco`` (both, NaN where unknown), ``seeds`` (how many differ), ``cost`` and ``divergence`` (means over
    the students that have them, with their own mean time and peak memory), ``same`` (equal for rows of the very same students).
    """
    columns = [*by, *SETTING, "method", "pool"]
    prints = students.fingerprints.map(lambda one: tuple(sorted(one.items())))
    latest = students.assign(prints=prints).drop_duplicates([*columns, "seed", "prints"], keep="last")
    rows: list[dict[str, Any]] = []
    for group, some in latest.sort_values("seed", kind="stable").groupby(columns, sort=False):
        row = dict(zip(columns, group, strict=True)) | some[["title", "baseline"]].iloc[0].to_dict()
        row |= {"top1": some.top1.to_list(), "mean": some.top1.mean(), "std": some.top1.std()}
        for name, scores in {"f1": some.macro_f1, "coco": some.coco_map}.items():
            row[name] = (pd.to_numeric(scores).mean(), pd.to_numeric(scores).std())
        row |= {name: pd.DataFrame(some[name].to_list()).mean().to_dict() for name in ("cost", "divergence")}
        row["cost"] |= {"student_seconds": some.seconds.mean(), "student_peak_memory_mb": some.peak_memory_mb.max()}
        names = sorted({one.get("student", "") for one in some.fingerprints})
        same = repr([row["method"], *(row[name] for name in SETTING), names if all(names) else len(rows)])
        rows.append(row | {"seeds": some.seed.nunique(), "same": same})
    return pd.DataFrame(rows)


def varied_keys(runs: Sequence[Run]) -> list[str]:
    """List the keys that some command line or sweep gave and that differ between runs, in the order given.

    Keys that only follow from others by interpolation do not count. Runs that differ in no such key, but in their names,
    are distinguished by ``name``. The keys of a method count where runs with this method differ in them.
    """
    given = dict.fromkeys(key for run in runs for key in run.overrides if key.partition(".")[0] not in NOT_COMPARED)
    varied = [
        key
        for key in given
        if len({run.value(key) for run in runs if any(matters(key, one) for one in run.methods)}) > 1
    ]
    return varied or ["name"] * (len({run.name for run in runs}) > 1)


def value_text(value: Value) -> str:
    """Write a setting's value for people."""
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def with_spread(mean: float, std: float | None = None) -> str:
    """Write an accuracy: ``61.2 ± 0.4``, ``61.2`` without a known spread, and nothing if it is unknown itself."""
    if math.isnan(mean):
        return ""
    return f"{mean:.1f}" if std is None or math.isnan(std) else f"{mean:.1f} ± {std:.1f}"


def evaluation_text(row: Any) -> str:
    """Describe how the students of a row were trained: ``protocol paper, stored labels``."""
    return f"protocol {row.protocol}, {row.labels} labels"


def is_number(value: Value) -> bool:
    """Whether a setting's value has a position on an axis."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def short_key(key: str) -> str:
    """Shorten a key for a legend: ``teachers per block`` for ``synthesis.teachers_per_block``."""
    return "IPC" if is_ipc(key) else key.rpartition(".")[2].replace("_", " ")


def has_column(key: str) -> bool:
    """Whether the values of a key have a column in every table: IPC, students, protocol, method, dataset."""
    return key in ("method", "dataset", "evaluation.students", "evaluation.protocol") or is_ipc(key)


def is_ipc(key: str) -> bool:
    """Whether a key is the number of images per class, a run's or a method's."""
    return key.endswith(".ipc")


def is_seed(key: str) -> bool:
    """Whether a key is a seed, a run's or a stage's."""
    return key.rpartition(".")[2] == "seed"


def is_of_students(key: str) -> bool:
    """Whether a key belongs to the students, and changes neither the images nor what they cost."""
    return key.startswith("evaluation.")


def matters(key: str, method: str) -> bool:
    """Whether a key can matter to a method: the keys of another method, ``methods.NAME.KEY``, do not."""
    return not key.startswith("methods.") or key.startswith(f"methods.{method}.")


def _equal(rows: pd.DataFrame, row: Any, columns: Sequence[str]) -> pd.Series:
    return (rows[list(columns)] == [getattr(row, name) for name in columns]).all(axis=1)


def _setting(run: Run, method: str, keys: Sequence[str]) -> tuple[Value, ...]:
    """A method's values of the varied keys in a run, ``ANY`` of those that do not matter to it."""
    return tuple(run.value(key) if matters(key, method) else ANY for key in keys)


def _merge(
    rows: pd.DataFrame, distinct: Sequence[tuple[Value, ...]], runs: Sequence[Run], values: dict[str, list[Value]]
) -> pd.DataFrame:
    """One row for the same students under several settings, if these are all there are or all combinations of values."""

    def allowed(key: str, method: str, found: Sequence[Value]) -> tuple[Value, ...]:
        return tuple(dict.fromkeys(found if matters(key, method) else values[key]))

    merged: list[dict[str, Any]] = []
    for _, some in rows.groupby("same", sort=False):
        method, held = some.method.iloc[0], [distinct[index] for index in some.setting_index]
        setting = {key: tuple(dict.fromkeys(one[index] for one in held)) for index, key in enumerate(values)}
        every = {_setting(run, method, list(values)) for run in runs}
        whole = set(held) in (every, set(itertools.product(*setting.values())))
        pool = {"pool": ANY} if whole and some.pool.nunique() > 1 else {}
        for own, row in list(zip(held, some.to_dict("records"), strict=True))[: 1 if whole else None]:
            chosen = setting if whole else {key: (value,) for key, value in zip(values, own, strict=True)}
            merged.append(row | {"setting": {key: allowed(key, method, one) for key, one in chosen.items()}} | pool)
    return pd.DataFrame(merged)


def _against(comparison: Comparison, row: Any) -> float:
    """Points above random real images where these have one accuracy under the row's setting."""
    means = comparison.partners(row, comparison.rows[comparison.rows.baseline])["mean"].unique()
    return row.mean - means[0] if len(means) == 1 and not row.baseline else math.nan
