"""Search for settings on held-out training images; the best one alone is measured on the test images.

A trial is an ordinary run of the judged method with ``evaluation.split=heldout``; the final run is the command as typed with the
best trial's settings.
"""

from __future__ import annotations

import itertools
import math
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd  # type: ignore[import-untyped]
import rich

from teddy.artifacts.processes import is_leader
from teddy.artifacts.store import atomic_write, write_json
from teddy.config.command import SEARCH_WORDS, key_of, word_of
from teddy.config.errors import UserError
from teddy.config.schema import MOST, SearchConfig, TeddyConfig
from teddy.report.comparison import with_spread
from teddy.report.page import write_report
from teddy.report.results_log import Result
from teddy.report.tables import rich_table
from teddy.runtime.seeding import permutation

Setting = tuple[str, ...]  # one combination of candidate values, as overrides
Outcome = list[Result] | Exception  # the results of a job, or why it has none
Launch = Callable[[Sequence[Sequence[str]], int], list[Outcome]]  # runs jobs by their overrides, from an index on
TABLE, CHOICE, FINAL = "search.csv", "search.json", "final"


def settings_to_try(config: TeddyConfig, typed: Sequence[str]) -> list[Setting]:
    """Combine the candidates: all combinations, or ``search.trials`` of them, drawn by the run's seed without repetition.

    A key that is typed keeps the value that was typed.
    """
    search, fixed = _search(config), set(map(key_of, typed))
    lists = [[word_of(key, one) for one in values] for key, values in search.values.items() if key not in fixed]
    if not lists:
        raise UserError(f"{', '.join(search.values)}: typed values leave nothing to search; leave one of them out.")
    if math.prod(map(len, lists)) > MOST:
        raise UserError(f"search.values has more than {MOST:,} combinations; name fewer candidates.")
    every = list(itertools.product(*lists))
    drawn = permutation(len(every), config.seed, "search")[: search.trials]
    return [every[index] for index in sorted(drawn)]


def trial(config: TeddyConfig, typed: Sequence[str], setting: Setting) -> list[str]:
    """Overrides of a trial: what was typed for the judged method, the trials' shared overrides, and the setting."""
    search, fixed = _search(config), set(map(key_of, typed))
    kept = [word for word in typed if key_of(word) != "method" and not _is_of_another_method(word, search.method)]
    shared = [word_of(key, value) for key, value in search.shared.items() if key not in fixed]
    return [*kept, f"method=[{search.method}]", "evaluation.split=heldout", *shared, *setting]


def final(typed: Sequence[str], setting: Setting) -> list[str]:
    """Overrides of the final run."""
    return [*typed, *setting, "evaluation.split=test", f"hydra.sweep.subdir={FINAL}"]


def jobs_of_search(config: TeddyConfig, typed: Sequence[str]) -> Iterator[list[str]]:
    """Overrides of every job that a search may run: its trials, and the final run with each of their settings."""
    for setting in settings_to_try(config, typed):
        yield trial(config, typed, setting)
        yield final(typed, setting)


def run_search(config: TeddyConfig, typed: Sequence[str], folder: Path, launch: Launch) -> None:
    """Run the trials and the final run, and write ``search.csv``, ``search.json`` and a report on the trials.

    The exception of the first trial is raised if none came to a result, or else that of the final run.
    """
    search, settings = _search(config), settings_to_try(config, typed)
    outcomes = launch([trial(config, typed, setting) for setting in settings], 0)
    table = table_of(search.method, settings, outcomes, folder)
    if is_leader():
        folder.mkdir(parents=True, exist_ok=True)  # a trial that failed at once removes what is empty
        atomic_write(folder / TABLE, table.to_csv(index=False, lineterminator="\n"))
        _show(table, f"{config.name}: {search.method} on held-out images, {len(settings)} trials")
    best, failed = table.iloc[0], [one for one in outcomes if isinstance(one, Exception)]
    if len(failed) == len(outcomes):
        raise failed[0]
    setting = settings[best.trial]
    command = shlex.join(["python", "-m", "teddy", *filter(_stays, sys.argv[1:]), *setting])
    if is_leader():
        overrides = {key_of(word): word.partition("=")[2] for word in setting}
        facts = {"method": search.method, "trials": len(settings), "heldout_top1": best["mean"]}
        write_json(folder / CHOICE, {**facts, "overrides": overrides, "command": command})
        print(f"Trials: {write_report(folder)}\nBest:   {' '.join(setting)}")
    (outcome,) = launch([final(typed, setting)], len(settings))
    if isinstance(outcome, Exception):
        raise outcome
    if is_leader():
        print(f"Again:  {command}")


def table_of(method: str, settings: Sequence[Setting], outcomes: Sequence[Outcome], folder: Path) -> pd.DataFrame:
    """Write one row per trial, best first: ``trial``, the searched keys, ``mean``, ``std``, ``seconds``, ``folder``, ``failed``.

    ``mean`` and ``std`` (sample standard deviation) are those of the judged method's students in percent. ``seconds`` went into
    images, labels and students, also in earlier runs, but not into the pool. ``failed`` is the reason, or empty.
    """
    lines = []
    for number, (setting, outcome) in enumerate(zip(settings, outcomes, strict=True)):
        rows = [] if isinstance(outcome, Exception) else [row for row in outcome if row.method == method]
        top1 = pd.Series([row.top1 for row in rows], dtype=float)
        cost = {key: value for row in rows for key, value in row.cost.items() if key.endswith("_seconds")}
        seconds = sum(row.seconds for row in rows) + sum(cost.values()) - cost.get("pool_seconds", 0.0)
        values = {key_of(word): word.partition("=")[2] for word in setting}
        numbers = {"mean": round(top1.mean(), 4), "std": round(top1.std(), 4), "seconds": round(seconds, 2)}
        failed = " ".join(str(outcome).split()) if isinstance(outcome, Exception) else ""
        lines.append({"trial": number, **values, **numbers, "folder": str(folder / str(number)), "failed": failed})
    return pd.DataFrame(lines).sort_values("mean", ascending=False, kind="stable", ignore_index=True)


def _search(config: TeddyConfig) -> SearchConfig:
    assert config.search is not None
    return config.search


def _stays(word: str) -> bool:
    """Whether a word of the command line still has a meaning when the search is over."""
    key = key_of(word)
    return word not in SEARCH_WORDS and key != "search" and not key.startswith(("search.", "hydra.sweep."))


def _is_of_another_method(word: str, method: str) -> bool:
    return key_of(word).startswith("methods.") and not key_of(word).startswith(f"methods.{method}.")


def _show(table: pd.DataFrame, title: str) -> None:
    rows = table.to_dict("records")
    top1 = ["failed" if row["failed"] else with_spread(row["mean"], row["std"]) for row in rows]
    shown = table.drop(columns=["mean", "std", "seconds", "folder", "failed"]).astype(str)
    rich.print(rich_table(shown.assign(**{"top-1 %": top1}, seconds=table.seconds.map("{:.1f}".format)), title))
    for row in table[table.failed != ""].itertuples():
        print(f"Trial {row.trial} failed: {row.failed}")
