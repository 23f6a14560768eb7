import json

import pytest

from teddy.config.errors import UserError
from teddy.report.runs import jobs_of, read_runs, unfinished


def test_a_run_is_read_as_it_was_written(tmp_path, make_run, students):
    (tmp_path / "png").mkdir()
    (tmp_path / "png" / "0.png").touch()
    record = {
        "name": "mine",
        "methods": {
            "real": {"title": "real", "images": str(tmp_path / "png")},
            "ours": {"title": "Ours", "terms": None},
        },
        "overrides": {"experiment": "a", "synthesis.ipc": "10", "pool": "prior"},
        "paper": {"toy/ours/convnet3/paper/ipc10": [53.0, 0.4], "toy/real/convnet3/paper/ipc10": [40.0]},
        "facts": {"hardware": "1 GPU"},
    }
    settings = {"seed": 1, "synthesis": {"ipc": 10, "lr": 0.25, "betas": [0.5, 0.9]}}
    folder = make_run(tmp_path / "run", students("ours", [60.0, 61.0]), settings, record=record)
    (folder / "terms.csv").write_text("")
    (run,) = read_runs([folder])
    assert [result.top1 for result in run.results] == [60.0, 61.0]
    assert run.settings["synthesis.ipc"] == 10
    assert run.settings["synthesis.betas"] == "[0.5, 0.9]"
    assert run.overrides == record["overrides"]
    assert run.paper == record["paper"]
    assert (run.name, list(run.methods), run.record["facts"]) == ("mine", ["real", "ours"], {"hardware": "1 GPU"})
    assert run.path("real", "images") == tmp_path / "png"
    assert run.path("ours", "terms") is run.path("nobody", "terms") is None
    run.methods["ours"]["terms"] = "terms.csv"  # relative to the run
    assert run.path("ours", "terms") == folder / "terms.csv"
    run.methods["ours"]["terms"] = "gone.csv"
    assert run.path("ours", "terms") is None


def test_a_folder_with_results_alone_will_do(tmp_path, students):
    folder = tmp_path / "recorded"
    folder.mkdir()
    (folder / "results.jsonl").write_text(json.dumps(students("ours", [60.0])[0]) + "\n")
    (run,) = read_runs([folder])
    assert (run.name, run.settings, run.overrides, run.paper, run.config) == ("recorded", {}, {}, {}, "")
    assert run.methods == {"ours": {"title": "Ours"}}


def test_null_in_evaluation_is_the_number_of_the_runs_one_protocol(tmp_path, make_run, students):
    def value(number, protocol, epochs, key="evaluation.epochs"):
        protocols = {"dm": {"epochs": 1000}, "idc": {"epochs": 500}}
        settings = {"evaluation": {"protocol": protocol, "epochs": epochs, "task": None, "protocols": protocols}}
        (run,) = read_runs([make_run(tmp_path / str(number), students("ours", [60.0]), settings)])
        return run.value(key)

    assert value(0, "dm", None) == 1000
    assert value(1, "idc", None) == 500
    assert value(2, "dm", 300) == 300
    assert value(3, ["dm", "idc"], None) is None
    assert value(4, "dm", None, "evaluation.task") is None


def test_a_sweep_is_its_jobs_by_number_and_no_run_counts_twice(tmp_path, make_run, students):
    for job in (10, 9, 2):
        make_run(tmp_path / str(job), students("ours", [float(job)]))
    (tmp_path / "figures").mkdir()
    runs = read_runs([tmp_path, tmp_path / "9"])
    assert [run.results[0].top1 for run in runs] == [2.0, 9.0, 10.0]
    assert [path.name for path in jobs_of(tmp_path)] == ["2", "9", "10"]
    assert jobs_of(tmp_path / "9") == []


def test_a_job_without_results_or_report_is_named(tmp_path, make_run, students):
    make_run(tmp_path / "0", students("ours", [60.0]))
    make_run(tmp_path / "1", [])
    make_run(tmp_path / "2", students("ours", [61.0])).joinpath("results.md").unlink()
    make_run(tmp_path / "3", students("ours", [61.0]), {"stages": ["evaluation"]}).joinpath("results.md").unlink()
    runs = read_runs([tmp_path])
    assert [run.folder.name for run in runs] == ["0", "2", "3"]
    sentences = unfinished([tmp_path])
    assert len(sentences) == 2
    assert f"{tmp_path / '1'} has no results and is left out" in sentences[0]
    assert f"{tmp_path / '2'} has no report" in sentences[1]
    assert unfinished([tmp_path / "2"]) == []  # its report is being written


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("config.yaml", "a: [1", "config.yaml cannot be read"),
        ("config.yaml", "- 1\n", "config.yaml is not the file"),
        ("run.json", "{", "run.json cannot be read"),
        ("run.json", "[]", "run.json is not the file"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, make_run, students, file, content, sentence):
    folder = make_run(tmp_path / "run", students("ours", [60.0]))
    (folder / file).write_text(content)
    with pytest.raises(UserError, match=sentence):
        read_runs([folder])


def test_what_is_no_run_is_refused_with_the_remedy(tmp_path, make_run):
    with pytest.raises(UserError, match="is no folder; give the folder of a run"):
        read_runs([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="holds neither a run nor a sweep; give"):
        read_runs([tmp_path])
    with pytest.raises(UserError, match="There are no results in"):
        read_runs([make_run(tmp_path / "0", [])])
