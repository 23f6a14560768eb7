"""The plan of a run against what the run then does: the same names, nothing found that is not there, nothing written."""

import pytest

from teddy.artifacts.store import ArtifactStore, Outlook
from teddy.config.errors import UserError
from teddy.runtime.forecast import Forecast, Item, RunProgress, total
from teddy.runtime.progress import Rehearsal, StageProgress


@pytest.fixture
def forecast(tmp_path):
    (tmp_path / "place").mkdir()
    return Forecast(ArtifactStore(tmp_path / "store"), tmp_path / "place", timed=True, known={})


def work(clock, seconds, units, label="work"):
    """A build whose units take some seconds each; the first takes ten times as long."""
    begun = []

    def build(folder):
        begun.append(folder)
        with StageProgress(label, units, "units") as bar:
            for unit in range(units):
                clock.now += seconds * (1 if unit else 10)
                bar.advance()
        return {}

    return build, begun


def test_the_time_is_that_of_a_few_units_without_the_slow_first_one(forecast, clock, capsys):
    build, begun = work(clock, 0.05, 1000)
    with forecast.quiet():
        made = forecast.produce("images", {"a": 1}, build, outlook=lambda: Outlook("some", {"ipc": 3}, label="work"))
    (item,) = forecast.items
    assert item.seconds == pytest.approx(0.05 * 1000)
    assert clock.now < 1002, "cut off after a few units"
    assert (made.planned, made.facts, item.found) == (True, {"ipc": 3}, False)
    assert not begun[0].exists()
    assert capsys.readouterr().err == ""


def test_a_slow_first_unit_is_enough(forecast, clock):
    build, _ = work(clock, 3, 10)
    forecast.produce("images", {"a": 1}, build, outlook=lambda: Outlook("some", {}, label="work"))
    assert forecast.items[0].seconds == 10 * 30
    assert clock.now == 1030


def test_equal_work_is_timed_once(forecast, clock):
    build, begun = work(clock, 0.05, 20)
    for seed in range(3):
        forecast.produce("students", {"seed": seed}, build, outlook=lambda: Outlook("some", {}, alike="x", units=40))
    assert len(begun) == 1
    assert [item.seconds for item in forecast.items] == pytest.approx([2.0] * 3)


def test_what_cannot_be_begun_has_no_time(forecast, clock):
    def build(folder):
        raise MemoryError

    forecast.produce("images", {"a": 1}, build, outlook=lambda: Outlook("some", {}))
    assert forecast.items[0].seconds is None
    assert forecast.lines({"images": "synthesis"})[0].endswith("1 to make: time unknown")
    assert total([*forecast.items, Item("images", "b", False, "", 0, {"x": (3, 2.0)})]).startswith("at least 6 s")


def test_work_behind_other_work_takes_as_long_as_passes_through_a_teacher(forecast, clock):
    """Such as steps behind statistics, of which only the latter can be timed."""
    sample, _ = work(clock, 0.05, 100, "pool")
    forecast.sample = ("teacher", sample, 10)  # 5 ms an image
    build, _ = work(clock, 0.5, 8, "statistics")
    known = Outlook("some", {}, label="steps", units=50, passes=50 * 20)
    forecast.produce("images", {"a": 1}, build, outlook=lambda: known)
    assert forecast.items[0].parts == {
        "statistics": (8, pytest.approx(5.0)),  # a first unit of more than two seconds
        "steps": (50, pytest.approx(20 * 0.005)),
    }


def test_neither_what_comes_before_the_first_unit_nor_what_is_found_counts(forecast, clock):
    """Such as the loading of networks, and banks of statistics that other runs have measured."""

    def build(folder):
        clock.now += 60
        with StageProgress("statistics", 100, "classes") as bar:
            bar.skip(70)
            for _ in range(30):
                clock.now += 3
                bar.advance()
        return {}

    forecast.produce("images", {"a": 1}, build, outlook=lambda: Outlook("some", {}))
    assert forecast.items[0].parts == {"statistics": (30, pytest.approx(3.0))}


def test_what_is_there_is_found_and_keeps_its_files(tmp_path, forecast):
    store = ArtifactStore(tmp_path / "store")
    made = store.produce("labels", {"a": 1}, lambda folder: (folder / "x").write_text("y") and {"epochs": 3})
    found = forecast.produce("labels", {"a": 1}, pytest.fail, outlook=lambda: Outlook("some", {}))
    assert (found, forecast.items[0].found, forecast.items[0].seconds) == (made, True, 0.0)
    line = f"  labels     some: 1 found ({made.fingerprint[:8]})"
    assert forecast.lines({"labels": "labels"})[0] == line


def test_a_stage_that_is_left_out_is_missed_as_in_the_run(tmp_path):
    store = ArtifactStore(tmp_path / "store")
    store.closed = {"images": "synthesis"}
    with pytest.raises(UserError, match="leaves out synthesis"):
        Forecast(store, tmp_path, True, {}).produce("images", {}, pytest.fail, outlook=lambda: Outlook("some", {}))
    assert not (tmp_path / "store").exists()


def test_the_whole_run_goes_by_the_plan_first_and_by_the_clock_later(tmp_path, clock):
    store = ArtifactStore(tmp_path)
    items = [Item("images", name, False, "", 0, {"work": (100, 1.0)}) for name in "ab"]
    run = RunProgress(store, items)
    assert run.status() == " | run 0 %, ETA 3:20"
    store.building = "a"
    for _ in range(50):
        clock.now += 2  # twice the plan's time
        run.advance("work", 1)
        run.advance("other", 1)
    # 50 of 200 seconds' work took 100 s; a tenth of the run's plan counts beside it: (100 + 20) / (50 + 20) * 150
    assert run.status() == " | run 25 %, ETA 4:17"


def test_a_line_of_progress_ends_with_the_whole_run(tmp_path, clock, capsys, monkeypatch):
    store = ArtifactStore(tmp_path)
    monkeypatch.setattr(
        StageProgress, "whole", RunProgress(store, [Item("images", "a", False, "", 0, {"steps": (10, 10.0)})])
    )
    store.building = "a"
    with StageProgress("steps", 10, "steps") as bar:
        clock.now += 10
        bar.advance()
    line = capsys.readouterr().err.splitlines()[1]
    assert line == "steps: 1/10 steps (10 %), ETA 1:30, 10 s each | run 10 %, ETA 1:30"


def test_a_rehearsal_counts_nothing_where_nothing_is_counted():
    assert Rehearsal().each is None
