"""The results file and the table in the README."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.results import kept_rows, show_results, table, write_results
from benchmarks.timing import Row

FAST = Row("a step (s)", 1.0, 2.0, 0.5, "<= 1.10", True)
SLOW = Row("another step (s)", 3.0, 2.0, 1.5, "<= 1.10", False)


def test_the_file_has_these_keys_and_no_others(tmp_path):
    path = tmp_path / "results" / "cpu.json"
    write_results(path, "a chip, 2 threads", {"torch": "2"}, [FAST, SLOW])
    content = json.loads(path.read_text())
    assert list(content) == ["device", "versions", "rows"]
    assert [list(row) for row in content["rows"]] == [["what", "ours", "reference", "ratio", "goal", "ok"]] * 2
    assert content["rows"][1]["ok"] is False


def test_rows_of_an_earlier_file_are_kept_unless_measured_again_or_on_other_hardware(tmp_path):
    path = tmp_path / "cpu.json"
    assert kept_rows(path, "a chip", {}, [FAST]) == []
    write_results(path, "a chip", {}, [FAST, SLOW])
    assert kept_rows(path, "a chip", {}, [FAST]) == [SLOW]
    assert kept_rows(path, "another chip", {}, [FAST]) == []
    assert kept_rows(path, "a chip", {"torch": "3"}, [FAST]) == []


def test_the_table_is_aligned_and_marks_missed_goals():
    lines = table([FAST, SLOW]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2].endswith("| 0.500 | <= 1.10 | yes |")
    assert lines[3].endswith("| 1.500 | <= 1.10 | NO  |")


def test_a_page_shows_the_results_between_its_two_marks(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("# Speed\n<!-- results cpu -->\nold\n<!-- end cpu -->\nThe rest.\n")
    for _ in range(2):
        show_results(page, "cpu", "a chip", {"torch": "2"}, [FAST])
    expected = f"# Speed\n<!-- results cpu -->\na chip; torch 2.\n\n{table([FAST])}\n<!-- end cpu -->\nThe rest.\n"
    assert page.read_text() == expected
    with pytest.raises(ValueError, match="no lines <!-- results cuda -->"):
        show_results(page, "cuda", "a chip", {}, [FAST])


def test_the_readme_shows_the_last_results():
    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    results = sorted((folder / "results").glob("*.json"))
    assert results
    for path in results:
        content = json.loads(path.read_text())
        assert table([Row(**row) for row in content["rows"]]) in (folder / "README.md").read_text()
