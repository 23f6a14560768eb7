"""Which settings a search tries, in which jobs, and what it makes of their results."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest

from teddy import search
from teddy.config.command import SEARCH_WORDS, check_jobs, read_command
from teddy.config.errors import StageFailed, UserError
from teddy.config.schema import TeddyConfig, register_schemas
from teddy.report.results_log import Result

register_schemas()
TYPED = ("+experiment=quickstart", "+search=teddy", "synthesis.ipc=2")
LR, BN = (0.003, 0.01, 0.03), (0.3, 1, 10)
GRID = [(f"synthesis.lr={lr}", f"synthesis.bn_weight={bn}") for lr, bn in itertools.product(LR, BN)]


def config_of(*more: str) -> TeddyConfig:
    (config,) = check_jobs(read_command([*TYPED, *more]))
    return config


@pytest.fixture(scope="module")
def config() -> TeddyConfig:
    return config_of()


def changed(config: TeddyConfig, **changes: Any) -> TeddyConfig:
    assert config.search is not None
    return dataclasses.replace(config, search=dataclasses.replace(config.search, **changes))


def test_within_the_budget_every_combination_is_tried(config):
    assert search.settings_to_try(config, TYPED) == GRID
    assert search.settings_to_try(changed(config, trials=100), TYPED) == GRID


def test_beyond_it_some_are_drawn_by_the_seed_without_repetition(config):
    few = changed(config, trials=4)
    drawn = {seed: search.settings_to_try(dataclasses.replace(few, seed=seed), TYPED) for seed in range(20)}
    for settings in drawn.values():
        assert len(settings) == len(set(settings)) == 4
        assert settings == sorted(settings, key=GRID.index)
    assert {one for settings in drawn.values() for one in settings} == set(GRID)
    assert search.settings_to_try(few, TYPED) == drawn[0]


def test_a_typed_key_is_not_searched(config):
    typed = (*TYPED, "synthesis.lr=0.5")
    assert search.settings_to_try(config, typed) == [(f"synthesis.bn_weight={value}",) for value in BN]
    with pytest.raises(UserError, match=r"^synthesis\.lr, synthesis\.bn_weight: typed values leave nothing to search"):
        search.settings_to_try(config, (*typed, "synthesis.bn_weight=1"))


def test_a_trial_is_the_judged_method_alone_on_held_out_images(config):
    typed = (*TYPED, "method=[teddy,sre2l,random]", "methods.sre2l.iterations=5", "methods.teddy.title=mine")
    (job,) = check_jobs(read_command(search.trial(changed(config, shared={"labels.epochs": 3}), typed, GRID[5])))
    assert list(job.methods) == ["teddy"]
    assert (job.methods["teddy"]["title"], job.synthesis.ipc) == ("mine", 2)
    assert (job.evaluation.split, job.labels.epochs) == ("heldout", 3)
    assert (job.synthesis.lr, job.synthesis.bn_weight) == (0.01, 10)


def test_the_final_run_is_what_was_typed_with_the_setting_and_without_the_cuts(config):
    typed = (*TYPED, "method=[teddy,sre2l,random]", "methods.sre2l.iterations=5")
    (job,) = check_jobs(read_command(search.final(typed, GRID[5])))
    assert list(job.methods) == ["teddy", "sre2l", "random"]
    assert (job.evaluation.split, job.evaluation.seeds) == ("test", 3)
    assert (job.synthesis.lr, job.synthesis.bn_weight, job.methods["sre2l"]["iterations"]) == (0.01, 10, 5)


def test_what_is_typed_wins_over_the_shared_cuts(config):
    (job,) = check_jobs(read_command(search.trial(config, TYPED, GRID[0])))
    assert job.evaluation.seeds == 2
    (job,) = check_jobs(read_command(search.trial(config, (*TYPED, "evaluation.seeds=5"), GRID[0])))
    assert job.evaluation.seeds == 5


def result(top1: float, seed: int = 0, method: str = "teddy") -> Result:
    facts = dict(dataset="toy", ipc=2, pool="", labels="stored", protocol="paper heldout", student="convnet3")
    cost = {"pool_seconds": 1000.0, "synthesis_seconds": 20.0, "labels_seconds": 3.0}
    return Result(method=method, seed=seed, top1=top1, seconds=100.0, cost=cost, **facts)


OUTCOMES = [
    [result(50, 0), result(52, 1)],
    StageFailed("student\ndiverged."),
    [result(53, 0), result(55, 1)],
    [result(54)],
]


class Launched:
    """Jobs that end as they are told to, in place of Hydra's launcher."""

    def __init__(self, *batches: list[search.Outcome]) -> None:
        self.batches, self.jobs = list(batches), []

    def __call__(self, jobs, first):
        self.jobs.append((first, [list(job) for job in jobs]))
        return self.batches.pop(0)


def test_the_table_has_the_best_trial_first_and_failed_ones_last(tmp_path: Path):
    table = search.table_of("teddy", GRID[:4], OUTCOMES, tmp_path)
    assert table.columns.to_list() == [
        *("trial", "synthesis.lr", "synthesis.bn_weight", "mean", "std", "seconds", "folder", "failed")
    ]
    assert table.trial.to_list() == [2, 3, 0, 1], "of two that are equally good the earlier one"
    assert table["mean"].to_list()[:3] == [54, 54, 51]
    assert table["std"].to_list()[::2] == [
        pytest.approx(statistics.stdev(pair), abs=1e-4) for pair in ((53, 55), (50, 52))
    ]
    assert table["seconds"].to_list() == [223, 123, 223, 0], "students, images and labels, but not the shared pool"
    assert table.failed.to_list() == ["", "", "", "student diverged."]
    others = [result(99, method="random"), result(10)]
    assert search.table_of("teddy", GRID[:1], [others], tmp_path)["mean"].to_list() == [10]


@pytest.fixture
def searched(config, tmp_path, monkeypatch):
    """Runs a search of four trials with given ends, on a command line as Hydra got it."""
    monkeypatch.setattr(search, "write_report", lambda folder: folder / "index.html")
    monkeypatch.setattr(
        sys, "argv", ["teddy", *TYPED, "search.trials=4", "hydra.sweep.dir=x", *SEARCH_WORDS, "--config-dir=my folder"]
    )

    def run(*batches):
        launched = Launched(*batches)
        search.run_search(changed(config, trials=4), TYPED, tmp_path, launched)
        return launched

    return run


def test_the_best_trial_alone_is_run_on_the_test_images(config, searched, tmp_path, capsys):
    settings = search.settings_to_try(changed(config, trials=4), TYPED)
    launched = searched(OUTCOMES, [[result(60)]])
    (first, trials), (second, last) = launched.jobs
    assert (first, second) == (0, 4)
    assert all("evaluation.split=heldout" in job and "evaluation.split=test" not in job for job in trials)
    assert [job[-2:] for job in trials] == [list(one) for one in settings]
    assert last == [[*TYPED, *settings[2], "evaluation.split=test", "hydra.sweep.subdir=final"]]

    with (tmp_path / "search.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["trial"] for row in rows] == ["2", "3", "0", "1"]
    assert rows[-1]["failed"] == "student diverged."
    choice = json.loads((tmp_path / "search.json").read_text())
    assert (choice["trials"], choice["heldout_top1"]) == (4, 54)
    assert [f"{key}={value}" for key, value in choice["overrides"].items()] == sorted(settings[2])
    words = f"+experiment=quickstart synthesis.ipc=2 '--config-dir=my folder' {' '.join(settings[2])}"
    assert choice["command"] == f"python -m teddy {words}"
    out = capsys.readouterr().out
    assert "Trial 1 failed: student diverged." in out
    assert choice["command"] in out


def test_without_any_result_the_first_reason_is_the_search_s_and_no_test_image_is_seen(searched, tmp_path):
    with pytest.raises(StageFailed, match="diverged"):
        searched([StageFailed("diverged."), *[UserError("later.")] * 3])
    assert (tmp_path / "search.csv").is_file()
    assert not (tmp_path / "search.json").exists()


def test_a_final_run_that_fails_ends_the_search_with_its_error(searched, tmp_path):
    with pytest.raises(UserError, match="no such image"):
        searched(OUTCOMES, [UserError("no such image.")])
    assert (tmp_path / "search.json").is_file()


def test_every_job_is_known_beforehand(config):
    jobs = list(search.jobs_of_search(changed(config, trials=2), TYPED))
    assert ["evaluation.split=heldout" in job for job in jobs] == [True, False] * 2
    assert ["evaluation.split=test" in job for job in jobs] == [False, True] * 2
