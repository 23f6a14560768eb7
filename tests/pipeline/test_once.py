"""Invariant 1: nothing is computed twice."""

import json

import pytest
from safetensors.numpy import load_file

from tests.pipeline.faults import Counted

EVERYTHING = "stages=[pool,synthesis,labels,evaluation,report]"


@pytest.fixture
def workspace(finished, tmp_path):
    """A workspace in which the tiny experiment has been run."""
    return finished.copy(tmp_path)


def test_the_same_command_again_computes_nothing_and_has_the_same_results(finished, workspace):
    before = workspace.manifests()
    done = workspace.run(EVERYTHING)
    assert workspace.manifests() == before
    assert done.rows == finished.done.rows
    assert "pool: 0/" not in done.err
    assert "synthesis: 0/" not in done.err
    assert {path.name for path in (done.folder / "figures").iterdir()} == {
        path.name for path in (finished.done.folder / "figures").iterdir()
    }


@pytest.mark.parametrize(
    ("words", "new"),
    [
        (["evaluation.students=[convnet2_w4]"], {"students": 2}),
        (["evaluation.seeds=[0,7]"], {"students": 2}),
        (["evaluation.protocol=[paper,dm]"], {"students": 2}),
        # Stored labels cover as many epochs as the students train; the images do not care.
        (["evaluation.epochs=4"], {"labels": 2, "students": 2}),
        (["labels.temperature=5"], {"students": 2}),
        (["labels.top_k=3"], {"labels": 2, "students": 2}),
        (["synthesis.ipc=2"], {"images": 2, "labels": 2, "students": 2}),
        # Random images depend on no learning rate.
        (["synthesis.lr=0.1"], {"images": 1, "labels": 1, "students": 1}),
        # The pool labels the images of both methods.
        (["pool.first=2", "pool.every=1"], {"images": 1, "labels": 2, "students": 2}),
        (["pool.first=1", "pool.every=1"], {"images": 1, "labels": 2, "students": 2}),
        (["pool.last=2", "pool.every=1"], {"images": 1, "labels": 2, "students": 2}),
        (["pool.size=3"], {"images": 1, "labels": 2, "students": 2}),
        # The same two members, found in another way.
        (["pool.size=2"], {}),
        # A method that is added shares the pool, one that is left out leaves the rest as it is.
        (["method=[teddy,random,converged]"], {"images": 1, "labels": 1, "students": 1}),
        (["method=[random]"], {}),
        # The titles of methods and what runs beside them are no part of the result.
        (["methods.teddy.title=Ours", "method=[random,teddy]"], {}),
        (["synthesis.checkpoint_every=1", "synthesis.snapshot_every=0", "name=other", "trainer.workers=1"], {}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_change_computes_what_it_changes_and_nothing_else(workspace, words, new):
    before, kinds = workspace.manifests(), workspace.kinds()
    workspace.run(*words)
    after = workspace.manifests()
    assert {path: after[path] for path in before} == before, "finished work is left alone"
    grown = {kind: count - kinds[kind] for kind, count in workspace.kinds().items()}
    assert {kind: count for kind, count in grown.items() if count} == new


def test_compressed_labels_depend_on_the_temperature_and_full_ones_do_not(workspace):
    made = [workspace.store / path for path in workspace.manifests() if path.parts[0] == "labels"]
    contents = [json.loads(path.read_text())["content"] for path in made]
    assert all(content.keys().isdisjoint({"temperature", "top_k"}) for content in contents)
    workspace.run("labels.top_k=3")
    before = workspace.kinds()
    done = workspace.run(EVERYTHING, "labels.top_k=3", "labels.temperature=5")
    after = workspace.kinds()
    assert (after["labels"] - before["labels"], after["students"] - before["students"]) == (2, 2)
    stored = [load_file(path) for path in workspace.store.glob("labels/*/labels.safetensors")]
    # Compressed: three logits of two bytes with their class indices of one byte, and the logit of the rest.
    assert sorted(sum(part.nbytes for part in one.values()) for one in stored) == [3 * 10 * 11] * 4 + [3 * 10 * 20] * 2
    kept = "labels kept: the 3 largest of 10 logits of a view, and one for the rest; 0.00 MB in full"
    assert f"- {kept}\n" in (done.folder / "results.md").read_text()


def test_two_runs_at_a_time_compute_it_once(finished, tmp_path):
    workspace = type(finished.workspace)(tmp_path, finished.workspace.start_process)
    running = [workspace.start("pool.training.epochs=5", "pool.last=5") for _ in range(2)]
    one, other = (command.wait() for command in running)
    assert (one.code, other.code) == (0, 0)
    assert [row["top1"] for row in one.rows] == [row["top1"] for row in other.rows]
    assert workspace.kinds() == finished.workspace.kinds()
    assert (one.err + other.err).count("pool: 0/") == 1
    assert "waiting for another run that is computing" in one.out + other.out


def test_three_runs_at_a_time_make_each_block_once(finished, tmp_path):
    workspace = finished.copy(tmp_path, without=("images", "labels", "students"))
    blocks = ("method=[teddy,dm]", "synthesis.batch_size=4", "methods.dm.iterations=6", "methods.dm.real_images=4")
    counted = {"teddy.synthesis.engine.save_point": Counted(str(tmp_path / "blocks"))}
    running = [
        workspace.start(*blocks, "stages=[pool,synthesis,labels]", f"evaluation.epochs={epochs}", settings=counted)
        for epochs in (3, 4, 3)
    ]
    assert [command.wait().code for command in running] == [0, 0, 0]
    made = (tmp_path / "blocks").read_text().split()
    assert len(made) == len(set(made)) == 3 + 1, "three of Teddy's, one of DM's"
    assert workspace.kinds() == {"images": 2, "labels": 4, "trajectory": 1}, "labels of three and of four epochs"


def test_a_sweep_over_ipc_trains_one_trajectory(workspace, finished):
    fresh = type(workspace)(workspace.folder / "fresh", workspace.start_process)
    fresh.folder.mkdir()
    fresh.run("-m", "synthesis.ipc=1,2")
    assert fresh.kinds() == {"images": 4, "labels": 4, "students": 4, "trajectory": 1}
    # What one job of a sweep makes is what a run of its own makes.
    alone = finished.workspace.results()
    assert {path: found for path, found in fresh.results().items() if path in alone} == alone
    for job in ("0", "1"):
        assert len((fresh.folder / "run0" / job / "results.jsonl").read_text().splitlines()) == 2
