"""What a whole run logs to Weights & Biases and TensorBoard, read back from their files."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from teddy.runtime import metrics

KEY = "0123456789abcdef0123" * 2
STUDENTS = ["teddy/paper/stored/convnet2_w8", "random/paper/stored/convnet2_w8"]


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory):
    """The tiny experiment with W&B offline, CSV and TensorBoard; all but the labels is made again, and divergence measured."""
    workspace = finished.copy(tmp_path_factory.mktemp("wandb"), without=("trajectory", "images", "students"))
    pytest.importorskip("tensorboard")
    stages = "stages=[pool,synthesis,labels,evaluation,report]"
    words = (
        "logger=[csv,offline,tensorboard]",
        "evaluation.divergence=true",
        "evaluation.curve=true",
        "synthesis.probe_every=5",
        "evaluation.seeds=2",
        stages,
    )
    return workspace, workspace.run(*words, environment={"WANDB_API_KEY": KEY})


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


def test_the_api_key_is_in_no_file_of_the_run(run):
    workspace, done = run
    files = [path for path in workspace.folder.rglob("*") if path.is_file()]
    assert {"config.yaml", "run.json", "teddy.log", "artifacts.txt"} <= {path.name for path in files}
    assert any(path.suffix == ".wandb" for path in files)
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in done.out + done.err


def descendants(pid: int) -> list[int]:
    """Processes that a process has started, and that these have started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [one for child in map(int, children) for one in (child, *descendants(child))]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")
def test_wandb_ends_in_the_middle_and_the_run_does_not(finished, tmp_path):
    """Its own process is killed; nothing that a run starts shows the API key in the list of processes."""
    workspace = finished.copy(tmp_path, without=("images", "students"))
    words = ("logger=[csv,offline]", "synthesis.iterations=200", "synthesis.checkpoint_every=5", "evaluation.epochs=4")
    expected = finished.copy(tmp_path / "without", without=("images", "students"))
    expected.run(*words, "logger=csv")
    started = workspace.start(*words, environment={"WANDB_API_KEY": KEY})
    while not any(workspace.store.glob("images/*/.resume-*")):
        assert started.process.is_alive(), started.err.read_text()
        time.sleep(0.01)
    pids = descendants(started.process.pid)
    shown = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in (started.process.pid, *pids)}
    assert not [line for line in shown.values() if KEY.encode() in line]
    (core,) = [pid for pid in pids if b"wandb-core" in shown[pid]]
    os.kill(core, signal.SIGKILL)
    done = started.wait()
    assert done.code == 0, done.err
    assert (done.out + done.err).count("W&B failed (") == 1
    assert workspace.results() == expected.results()


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


def test_every_fixed_name_is_logged(record):
    """As it is, or in a fit whose curves have longer names."""
    logged = {"/".join((name.split("/")[0], name.split("/")[-1])) for name in record["summary"]}
    assert set(metrics.FIXED) <= set(record["summary"]) | logged


def test_everything_that_the_dashboard_draws_was_logged(run, record):
    pytest.importorskip("wandb_workspaces")
    command = [sys.executable, "-m", "teddy.report.dashboard", "--dry-run", str(run[1].folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    panels = re.findall(r'"config": (\{.*?\n {8,9}\})', done.stdout, re.DOTALL)
    names = set(re.findall(r'"(?:summary:)?([a-z_0-9]+(?:/[a-z_0-9]+)+)"', "".join(panels)))
    assert {"cost/pool_seconds", f"student/{STUDENTS[1]}/top1"} <= names
    assert names <= set(record["summary"])
    patterns = re.findall(r'"metricRegex": "([^"]+)"', done.stdout)
    assert patterns
    drawn = {name for name in record["summary"] for pattern in patterns if re.search(pattern, name)}
    assert {"pool/loss", "synthesis/teddy/loss", "evaluation/teddy/paper/convnet2_w8/0/loss"} <= drawn
    assert not drawn & {"synthesis/teddy/step", "synthesis/teddy/block", "synthesis/teddy/iteration"}


def test_the_curves_of_all_stages_are_there(record):
    summary = record["summary"]
    assert summary["pool/epoch"] == 3
    assert summary["pool/val/top1"] > 0
    assert summary["synthesis/teddy/iteration"] == 5
    assert summary["synthesis/teddy/loss"] > 0
    assert summary["evaluation/teddy/paper/convnet2_w8/0/loss"] > 0


def test_the_learning_rates_of_all_stages_are_there(run):
    curves = run[1].curves("")
    synthesis = [rate for _, rate in curves["synthesis/teddy/lr"]]
    assert synthesis[0] == pytest.approx(0.05), "as configured, in the first iteration"
    for name in ("pool/lr", "synthesis/teddy/lr", "evaluation/teddy/paper/convnet2_w8/0/lr"):
        rates = [rate for _, rate in curves[name]]
        assert min(rates) > 0
        assert rates == sorted(rates, reverse=True), "cosines"
        assert len(set(rates)) > 1 or name == "pool/lr"
    assert curves["pool/lr"][0][1] == pytest.approx(0.05 * (1 + math.cos(math.pi / 3)) / 2), (
        "in the second of three epochs"
    )


def test_students_are_followed_on_held_out_images_and_are_the_same_students(run, finished):
    curve = run[1].curves("")["evaluation/teddy/paper/convnet2_w8/0/val/top1"]
    assert len(curve) >= 2
    assert all(0 <= top1 <= 100 for _, top1 in curve)
    steps = [step for step, _ in curve]
    assert steps == sorted(set(steps))
    find = lambda rows: {(row["method"], row["seed"]): row["top1"] for row in rows}  # noqa: E731
    plain = find(finished.done.rows)
    assert plain.items() <= find(run[1].rows).items()


def test_the_pictures_and_the_table_are_there(run, record):
    for name in ("images_teddy", "images_random", "terms_teddy", "pool"):
        entry = record["summary"][f"report/{name}"]
        (picture,) = (run[1].folder / "wandb").glob(f"offline-run-*/files/{entry['path']}")
        assert picture.read_bytes() == (run[1].folder / "figures" / f"{name}.png").read_bytes()
    assert record["summary"]["results"]["nrows"] == 4


def test_the_images_on_their_way_are_shown_in_the_order_of_the_classes(run, rows):
    shown = [row for row in rows if "synthesis/teddy/images.path" in row]
    assert [row["synthesis/teddy/step"] for row in shown] == [0, 2, 5], "after the steps with these numbers"
    for row in shown:
        step, caption = row["synthesis/teddy/step"] + 1, row["synthesis/teddy/images.caption"]
        assert caption.startswith(f"iteration {step}: t-shirt")
        assert caption.endswith("ankle boot")
        (path,) = (run[1].folder / "wandb").glob(f"offline-run-*/files/{row['synthesis/teddy/images.path']}")
        (snapshot,) = (run[0].store / "images").glob(f"*/snapshots/{step:06d}.safetensors")
        third = load_file(snapshot)["images"][2, 0]
        with Image.open(path) as picture:
            corner = 2 + 2 * (28 + 2)
            assert (torch.from_numpy(np.array(picture.convert("L")))[2:30, corner : corner + 28] == third).all()


def test_the_artifacts_lead_from_the_pool_to_the_labels(run, artifacts):
    row = next(row for row in run[1].rows if row["method"] == "teddy")
    teachers, images, labels = (artifacts[f"tiny-teddy-{kind}"] for kind in ("teachers", "images", "labels"))
    assert [one["type"] for one in (teachers, images, labels)] == ["teachers", "synset", "labels"]
    assert teachers["metadata"]["fingerprint"] == row["fingerprints"]["pool"]
    assert images["metadata"]["fingerprint"] == row["fingerprints"]["images"]
    assert images["metadata"]["parents"] == {"tiny-teddy-teachers": row["fingerprints"]["pool"]}
    assert labels["metadata"]["parents"] == {
        "tiny-teddy-teachers": row["fingerprints"]["pool"],
        "tiny-teddy-images": row["fingerprints"]["images"],
    }
    assert len([entry for entry in images["manifest"]["contents"] if entry["path"].endswith(".png")]) == 10


def test_what_was_made_is_an_output_of_the_run_and_what_was_found_an_input(artifacts):
    found = {name for name, one in artifacts.items() if one.get("use_after_commit")}
    assert found == {"tiny-teddy-labels", "tiny-random-labels"}, "the others were made again"


def test_nothing_of_wandb_is_shown_or_left_elsewhere(run):
    workspace, done = run
    assert "wandb:" not in done.err + done.out
    assert {path.name for path in workspace.folder.iterdir()} == {"run0", "run0.out", "run0.err", "store"}


def test_csv_and_tensorboard_hold_the_same_curves(run, record):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run[1].folder / "tensorboard"))
    events.Reload()
    curves = run[1].curves("")
    for name in ("pool/loss", "synthesis/teddy/loss", "evaluation/teddy/paper/convnet2_w8/0/loss"):
        logged = [(event.step, event.value) for event in events.Scalars(name)]
        assert logged == [(step, pytest.approx(value)) for step, value in curves[name]]
        assert record["summary"][name] == pytest.approx(logged[-1][1])
    assert "synthesis/teddy/images" in events.Tags()["images"]
    assert "report/images_teddy" in events.Tags()["images"]
    text = {
        name: events.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0].decode()
        for name in ("results", "lineage/tiny-teddy")
    }
    assert "| teddy | paper | stored | convnet2_w8 | 0 | top1 |" in text["results"]
    row = next(row for row in run[1].rows if row["method"] == "teddy")
    assert (
        f"images `{row['fingerprints']['images']}`, made by this run, made from teachers" in text["lineage/tiny-teddy"]
    )
    assert "labels `" in text["lineage/tiny-teddy"]
    assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams"), (
        "runs can be compared by their settings"
    )
    (final,) = {event.value for event in events.Scalars(f"student/{STUDENTS[0]}/top1")}
    assert final == pytest.approx(record["summary"][f"student/{STUDENTS[0]}/top1"])
