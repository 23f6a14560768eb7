import json
import logging

import pytest

from teddy.config.errors import BadInput
from teddy.report.runs import jobs_of, read_runs, unfinished


def test_a_run_is_read_as_it_was_written(tmp_path, make_run, students):
    record = {
        "name": "mine",
        "command": "python -m teddy seed=1",
        "images": {"teddy": str(tmp_path / "png")},
        "class_names": ["ant", "bee"],
        "pool": [{"epoch": 0.22, "top1_test": 30.0, "chosen": True}],
        "facts": {"hardware": "1 GPU"},
        "fingerprints": {"teddy": "f00d"},
    }
    settings = {
        "seed": 1,
        "synthesis": {"ipc": 10, "lr": 0.25, "betas": [0.5, 0.9]},
        "paper": {"teddy/convnet3/paper/ipc10": [53.0, 0.4], "random/convnet3/paper/ipc10": 40.0},
    }
    words = ["+experiment=a", "synthesis.ipc=10", "pool@other=prior", "~baseline", "name='a=b'"]
    (run,) = read_runs([make_run(tmp_path / "run", students("teddy", [60.0, 61.0]), settings, words, record)])
    assert [row.top1 for row in run.rows] == [60.0, 61.0]
    assert run.settings["synthesis.ipc"] == 10
    assert run.settings["synthesis.lr"] == 0.25
    assert run.settings["synthesis.betas"] == "[0.5, 0.9]"
    assert not any(key.startswith("paper") for key in run.settings)
    given = {"experiment": "a", "synthesis.ipc": "10", "pool": "prior", "baseline": "none", "name": "a=b"}
    assert run.overrides == given
    assert run.paper == {"teddy/convnet3/paper/ipc10": [53.0, 0.4], "random/convnet3/paper/ipc10": [40.0]}
    assert (run.name, run.command, run.class_names) == ("mine", "python -m teddy seed=1", ("ant", "bee"))
    assert run.images == {"teddy": tmp_path / "png"}
    assert (run.pool, run.facts, run.fingerprints) == (record["pool"], record["facts"], record["fingerprints"])


def test_a_folder_with_results_alone_will_do(tmp_path, students):
    folder = tmp_path / "recorded"
    folder.mkdir()
    (folder / "results.jsonl").write_text(json.dumps(students("teddy", [60.0])[0]) + "\n")
    (run,) = read_runs([folder])
    assert (run.name, run.settings, run.overrides, run.paper, run.images) == ("recorded", {}, {}, {}, {})


def test_a_sweep_is_its_jobs_by_number_and_no_run_counts_twice(tmp_path, make_run, students):
    for job in (10, 9, 2):
        make_run(tmp_path / str(job), students("teddy", [float(job)]))
    (tmp_path / "figures").mkdir()
    runs = read_runs([tmp_path, tmp_path / "9"])
    assert [run.rows[0].top1 for run in runs] == [2.0, 9.0, 10.0]
    assert [path.name for path in jobs_of(tmp_path)] == ["2", "9", "10"]
    assert jobs_of(tmp_path / "9") == []


def test_a_job_without_results_or_report_is_named(tmp_path, make_run, students, caplog):
    make_run(tmp_path / "0", students("teddy", [60.0]))
    make_run(tmp_path / "1", [])
    make_run(tmp_path / "2", students("teddy", [61.0])).joinpath("results.md").unlink()
    make_run(tmp_path / "3", students("teddy", [61.0]), {"stages": ["evaluation"]}).joinpath("results.md").unlink()
    with caplog.at_level(logging.WARNING):
        runs = read_runs([tmp_path])
    assert [run.folder.name for run in runs] == ["0", "2", "3"]
    told = unfinished([tmp_path])
    assert caplog.messages == told
    assert len(told) == 2
    assert f"{tmp_path / '1'} has no results and is left out" in told[0]
    assert f"{tmp_path / '2'} has no report" in told[1]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.yaml", "a: [1", "config.yaml is not YAML"),
        ("config.yaml", "- 1\n", "config.yaml is not the file"),
        (".hydra/overrides.yaml", "a: 1\n", "overrides.yaml is not the file"),
        ("run.json", "{", "run.json is not JSON"),
        ("run.json", "[]", "run.json is not the file"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, make_run, students, file, content, words):
    folder = make_run(tmp_path / "run", students("teddy", [60.0]))
    (folder / file).write_text(content)
    with pytest.raises(BadInput, match=words):
        read_runs([folder])


def test_what_is_no_run_is_refused_with_the_remedy(tmp_path, make_run):
    with pytest.raises(BadInput, match="is no folder; give the folder of a run"):
        read_runs([tmp_path / "nowhere"])
    with pytest.raises(BadInput, match="holds neither a run nor a sweep; give"):
        read_runs([tmp_path])
    with pytest.raises(BadInput, match="There are no results in"):
        read_runs([make_run(tmp_path / "0", [])])
