"""``--plan`` and the first lines of a run, against what the run then makes."""

import re

import pytest

STAGE = {"trajectory": "pool", "images": "synthesis", "labels": "labels", "students": "evaluation"}


def names(text):
    """Names of what is found, by stage."""
    found = {}
    for stage, inside in re.findall(r"^  (\w+) .*\d+ found \(([^)]*)\)", text, re.MULTILINE):
        found.setdefault(stage, set()).update(inside.split(", "))
    return found


def counts(text, word):
    """How many artifacts are found or to make, by stage."""
    found = {}
    for stage, number in re.findall(rf"^  (\w+) .*?(\d+) {word}", text, re.MULTILINE):
        found[stage] = found.get(stage, 0) + int(number)
    return found


def test_a_plan_names_what_the_run_then_makes_and_writes_nothing(finished, tmp_path):
    workspace = type(finished.workspace)(tmp_path, finished.workspace.start_process)
    done = workspace.run("--plan", settings={"teddy.preview.MEASURE": True})
    assert not workspace.store.exists()
    assert not done.folder.exists()
    made = finished.workspace.kinds()
    assert counts(done.out, "to make") == {STAGE[kind]: count for kind, count in made.items()}
    assert done.out.startswith("tiny: pool, synthesis, labels, evaluation on cpu (")
    assert re.search(r"^  run        about \d+ s, ", done.out, re.MULTILINE)
    assert "unknown" not in done.out


def test_a_plan_finds_what_is_there(finished, tmp_path):
    workspace = finished.copy(tmp_path, without=("students",))
    before = workspace.manifests()
    done = workspace.run("--plan", "evaluation.seeds=2")
    expected = {}
    for path in before:
        expected.setdefault(STAGE[path.parts[0]], set()).add(path.parts[1][:8])
    assert names(done.out) == expected
    assert counts(done.out, "to make") == {"evaluation": 4}
    assert workspace.manifests() == before


def test_measuring_changes_no_result(finished, tmp_path):
    workspace = type(finished.workspace)(tmp_path, finished.workspace.start_process)
    done = workspace.run(settings={"teddy.preview.MEASURE": True})
    assert workspace.results() == finished.workspace.results(), "the whole run measured as well; the bytes are the same"
    lines = done.out.splitlines()
    assert lines[0].startswith("tiny: pool, synthesis, labels, evaluation on cpu (")
    assert [line.split()[0] for line in lines[1:6]] == ["pool", "synthesis", "labels", "evaluation", "run"]
    assert re.search(r"^pool: epoch 3, [\d.]+ % on held-out images$", done.out, re.MULTILINE)
    assert done.err.splitlines()[0].startswith("teddy ")


def test_the_plan_of_a_sweep_counts_shared_work_once(finished, tmp_path):
    workspace = type(finished.workspace)(tmp_path, finished.workspace.start_process)
    done = workspace.run("--plan", "-m", "synthesis.ipc=1,2", "method=[random]")
    assert not workspace.store.exists()
    assert not done.folder.exists()
    last = done.out.splitlines()[-1]
    assert last.startswith("all 2 runs: ")
    assert counts(done.out, "to make") == {"pool": 2, "synthesis": 2, "labels": 2, "evaluation": 2}


@pytest.mark.parametrize(
    "words",
    [
        ("pool=post", "pool.size=2", "pool.base=trained", "pool.strategy.macs=0.9", "pool.strategy.epochs=1"),
        ("method=[classwise,el2n,random]",),
        ("evaluation=continual", "evaluation.task.steps=2", "evaluation.task.orders=1", "labels=online"),
    ],
    ids=["post", "statistics", "continual"],
)
def test_the_plan_of_other_pools_methods_and_tasks(words, finished, tmp_path):
    workspace = type(finished.workspace)(tmp_path, finished.workspace.start_process)
    done = workspace.run("--plan", *words, settings={"teddy.preview.MEASURE": True})
    assert "unknown" not in done.out
    made = workspace.run(*words)
    found = {
        STAGE.get(path.parts[0], "pool") for path in workspace.manifests() if path.parts[0] not in ("bank", "scores")
    }
    assert counts(done.out, "to make").keys() == found
    again = workspace.run("--plan", *words)
    assert counts(again.out, "to make") == {}, f"{done.out}\n{again.out}"
    assert made.code == 0
