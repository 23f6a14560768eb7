"""What Weights & Biases is told of a whole run, read back by its own reader from an offline run's file."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from teddy.runtime import metrics

STUDENTS = ["teddy/paper/stored/convnet2_w8", "random/paper/stored/convnet2_w8"]


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory):
    """The tiny experiment with W&B offline; all but the labels is made again, and the students' divergence measured."""
    desk = finished.copy(tmp_path_factory.mktemp("wandb"), without=("trajectory", "images", "students"))
    stages = "stages=[pool,synthesis,labels,evaluation,report]"
    return desk, desk.run("logger=offline", "evaluation.divergence=true", "evaluation.seeds=2", stages)


@pytest.fixture(scope="module")
def record(run, read_wandb):
    """The run's end."""
    return json.loads(read_wandb(run[1].folder, "--summary"))


@pytest.fixture(scope="module")
def rows(run, read_wandb):
    """Every row of the run's curves."""
    lines = map(json.loads, read_wandb(run[1].folder).splitlines())
    return [line["history"]["item"] for line in lines if line["type"] == "history"]


@pytest.fixture(scope="module")
def artifacts(run, read_wandb):
    """The artifacts by name; their metadata as an object. W&B makes one of its own, without metadata, of the table."""
    lines = map(json.loads, read_wandb(run[1].folder).splitlines())
    found = [line["artifact"] for line in lines if "metadata" in line.get("artifact", {})]
    return {one["name"]: {**one, "metadata": json.loads(one["metadata"])} for one in found}


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
    for setting in STUDENTS:
        one, other = (row["top1"] for row in run[1].rows if row["method"] == setting.split("/")[0])
        assert summary[f"student/{setting}/top1"] == pytest.approx((one + other) / 2)
        assert summary[f"student/{setting}/top1_std"] == pytest.approx(abs(one - other) / 2**0.5)
    cost = next(row["cost"] for row in run[1].rows if row["method"] == "teddy")
    for name in ("pool_seconds", "synthesis_seconds", "synthesis_peak_memory_mb"):
        assert summary[f"cost/{name}"] == cost[name]
    assert summary["cost/synthesis_seconds"] > 0
    assert summary["labels/storage_mb"] > 0
    distances = [nats for row in run[1].rows if row["method"] == "teddy" for nats in row["divergence"].values()]
    assert len(distances) == 4, "from each of two students to each of two teachers"
    assert summary["divergence/mean"] == pytest.approx(sum(distances) / 4)


def test_every_name_is_logged_by_someone(run, record):
    """In W&B, or in the file of a fit whose curves have longer names there."""
    columns = {
        name for path in (run[1].folder / "curves").iterdir() for name in path.read_text().split("\n")[0].split(",")
    }
    assert set(metrics.FIXED) <= set(record["summary"]) | columns


def test_whatever_the_dashboard_draws_was_logged(record):
    pytest.importorskip("wandb_workspaces")
    command = [sys.executable, "-m", "teddy.report.dashboard", "--dry-run", "--students", *STUDENTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    panels = re.findall(r'"config": (\{.*?\n {8,9}\})', done.stdout, re.DOTALL)
    names = set(re.findall(r'"(?:summary:)?([a-z_0-9]+(?:/[a-z_0-9]+)+)"', "".join(panels)))
    assert {"pool/loss", "synthesis/images", "cost/pool_seconds", f"student/{STUDENTS[1]}/top1_std"} <= names
    assert names <= set(record["summary"])


def test_the_curves_of_all_stages_are_there(record):
    summary = record["summary"]
    assert summary["pool/epoch"] == 3
    assert summary["pool/top1_holdout"] > 0
    assert summary["synthesis/iteration"] == 5
    assert summary["synthesis/loss"] > 0
    assert summary["evaluation/teddy/paper/convnet2_w8/0/loss"] > 0


def test_the_pictures_and_the_table_are_there(run, record):
    for name in ("images_teddy", "images_random", "curves", "pool"):
        entry = record["summary"][f"report/{name}"]
        (picture,) = (run[1].folder / "wandb").glob(f"offline-run-*/files/{entry['path']}")
        assert picture.read_bytes() == (run[1].folder / "figures" / f"{name}.png").read_bytes()
    assert record["summary"]["results"]["nrows"] == 4


def test_the_images_on_their_way_are_shown_in_the_order_of_the_classes(run, rows):
    shown = [row for row in rows if "synthesis/images.path" in row]
    assert [row["synthesis/step"] for row in shown] == [1, 3, 6]
    for row in shown:
        step, caption = row["synthesis/step"], row["synthesis/images.caption"]
        assert caption.startswith(f"iteration {step}: t-shirt")
        assert caption.endswith("ankle boot")
        (path,) = (run[1].folder / "wandb").glob(f"offline-run-*/files/{row['synthesis/images.path']}")
        (frame,) = (run[0].store / "images").glob(f"*/frames/{step:06d}.safetensors")
        third = load_file(frame)["images"][2, 0]
        with Image.open(path) as picture:
            corner = 2 + 2 * (28 + 2)
            assert (torch.from_numpy(np.array(picture.convert("L")))[2:30, corner : corner + 28] == third).all()


def test_the_artifacts_lead_from_the_pool_to_the_labels(run, artifacts):
    row = next(row for row in run[1].rows if row["method"] == "teddy")
    teachers, images, labels = (artifacts[f"tiny-{word}"] for word in ("teachers", "images", "labels"))
    assert [one["type"] for one in (teachers, images, labels)] == ["teachers", "synset", "labels"]
    assert teachers["metadata"]["fingerprint"] == row["fingerprints"]["pool"]
    assert images["metadata"]["fingerprint"] == row["fingerprints"]["images"]
    assert images["metadata"]["parents"] == {"tiny-teachers": row["fingerprints"]["pool"]}
    assert labels["metadata"]["parents"] == {
        "tiny-teachers": row["fingerprints"]["pool"],
        "tiny-images": row["fingerprints"]["images"],
    }
    assert len([entry for entry in images["manifest"]["contents"] if entry["path"].endswith(".png")]) == 10


def test_what_was_made_is_an_output_of_the_run_and_what_was_found_an_input(artifacts):
    found = {name for name, one in artifacts.items() if one.get("use_after_commit")}
    assert found == {"tiny-labels"}, "the others were made again"


def test_nothing_of_wandb_is_shown_or_left_elsewhere(run):
    desk, done = run
    assert "wandb:" not in done.err + done.out
    assert {path.name for path in desk.folder.iterdir()} == {"run0", "run0.out", "run0.err", "store"}
