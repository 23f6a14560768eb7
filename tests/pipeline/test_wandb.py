"""What Weights & Biases is told of a whole run, read back by its own reader from an offline run's file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory):
    """The tiny experiment with W&B offline; only the images and what follows from them are made again."""
    desk = finished.copy(tmp_path_factory.mktemp("wandb"), without=("trajectory", "images", "students"))
    done = desk.run("logger=offline", "stages=[pool,synthesis,labels,evaluation,report]")
    return desk, done


@pytest.fixture(scope="module")
def record(run):
    """The run's file as `wandb leet inspect` tells it."""
    (file,) = (run[1].folder / "wandb").glob("offline-run-*/run-*.wandb")
    reader = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--summary", "--json", str(file)]
    done = subprocess.run(reader, capture_output=True, text=True, timeout=60)
    if "No such command" in done.stderr:
        pytest.skip("this wandb has no `leet inspect`")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_run_is_named_grouped_and_ended(record):
    assert (record["name"], record["state"], record["exit_code"]) == ("tiny-s0", "finished", 0)
    assert set(record["tags"]) == {"fashion_mini", "ipc1", "prior"}


def test_the_whole_configuration_is_there(record):
    config = record["config"]
    assert config["synthesis"]["ipc"] == 1
    assert config["pool"]["training"]["epochs"] == 3
    assert config["evaluation"]["students"] == ["convnet2_w8"]
    assert config["command"].startswith("python -m teddy ")
    assert len(config["dataset_fingerprint"]) == 16


def test_the_summary_has_the_students_accuracy_and_the_costs(run, record):
    summary = record["summary"]
    for row in run[1].rows:
        key = f"student/{row['method']}/paper/stored/convnet2_w8/top1"
        assert summary[key] == pytest.approx(row["top1"])
    assert summary["cost/synthesis_seconds"] > 0
    assert summary["labels/storage_mb"] > 0


def test_the_curves_of_all_stages_are_there(record):
    summary = record["summary"]
    assert summary["pool/epoch"] == 3
    assert summary["pool/top1_holdout"] > 0
    assert (summary["synthesis/step"], summary["synthesis/iteration"]) == (5, 5)
    assert summary["synthesis/loss"] > 0
    assert summary["evaluation/teddy/paper/convnet2_w8/0/loss"] > 0


def test_the_pictures_and_the_table_are_there(run, record):
    for name in ("images_teddy", "images_random", "curves", "pool"):
        entry = record["summary"][f"report/{name}"]
        (picture,) = (run[1].folder / "wandb").glob(f"offline-run-*/files/{entry['path']}")
        assert picture.read_bytes() == (run[1].folder / "figures" / f"{name}.png").read_bytes()
    assert record["summary"]["results"]["nrows"] == 2


def test_the_distilled_images_are_logged_as_an_artifact(run):
    """An offline run keeps the artifact in its file; its manifest lists what would be uploaded."""
    (file,) = (run[1].folder / "wandb").glob("offline-run-*/run-*.wandb")
    content = file.read_bytes()
    assert b"tiny-images" in content
    assert b"synset" in content
    (row,) = [row for row in run[1].rows if row["method"] == "teddy"]
    assert row["fingerprints"]["images"].encode() in content


def test_nothing_of_wandb_is_shown_or_left_elsewhere(run):
    desk, done = run
    assert "wandb:" not in done.err + done.out
    assert {path.name for path in desk.folder.iterdir()} == {"run0", "run0.out", "run0.err", "store"}
