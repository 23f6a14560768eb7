import json
import multiprocessing

import pytest

from teddy.config.errors import UserError
from teddy.report.results_log import Result, append_result, read_results


def result(**changes):
    facts = dict(dataset="cifar10", ipc=10, method="ours", pool="prior 2-18/2 (9)", labels="online")
    facts |= dict(protocol="paper", student="resnet18", seed=0, top1=61.25, seconds=12.5, peak_memory_mb=900.0)
    return Result(**{**facts, "fingerprints": {"pool": "abc"}, **changes})


def test_what_was_appended_is_read_back(tmp_path):
    log = tmp_path / "deep" / "results.jsonl"
    assert read_results(log) == []
    wanted = [result(seed=seed, top1=60 + seed / 3) for seed in range(3)]
    for row in wanted:
        append_result(log, row)
    assert read_results(log) == wanted
    first = json.loads(log.read_text().splitlines()[0])
    assert (first["dataset"], first["fingerprints"]) == ("cifar10", {"pool": "abc"})


def test_half_a_line_at_the_end_is_neither_read_nor_kept(tmp_path):
    log = tmp_path / "results.jsonl"
    append_result(log, result(seed=0))
    whole = log.read_bytes()
    log.write_bytes(whole + whole[:40])
    assert read_results(log) == [result(seed=0)]
    append_result(log, result(seed=1))
    assert read_results(log) == [result(seed=0), result(seed=1)]


def test_a_log_of_half_a_line_is_empty(tmp_path):
    log = tmp_path / "results.jsonl"
    log.write_text('{"dataset": "cif')
    assert read_results(log) == []


@pytest.mark.parametrize("damage", ["{not json", '{"dataset": "cifar10"}', "[1, 2]", ""])
def test_a_damaged_line_is_named(tmp_path, damage):
    log = tmp_path / "results.jsonl"
    append_result(log, result())
    with log.open("a") as stream:
        stream.write(damage + "\n")
    append_result(log, result())
    with pytest.raises(UserError, match=r"results\.jsonl, line 2,"):
        read_results(log)


def _append_some(path, student):
    for seed in range(20):
        append_result(path, result(student=student, seed=seed))


def test_two_processes_may_append_at_once(tmp_path):
    path = tmp_path / "results.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_some, args=(path, name)) for name in ("a", "b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    rows = read_results(path)
    assert [row.seed for row in rows if row.student == "a"] == list(range(20))
    assert len(rows) == 40


def test_lines_of_before_titles_are_read(tmp_path):
    log = tmp_path / "results.jsonl"
    append_result(log, result())
    line = json.loads(log.read_text())
    del line["title"], line["baseline"]
    log.write_text(json.dumps(line) + "\n")
    assert (read_results(log)[0].title, read_results(log)[0].baseline) == ("ours", False)
