import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from PIL import Image

import teddy
from teddy.runtime.curves import read_curve
from teddy.runtime.loggers import RunLog, open_log

WHERE = dict(project="teddy", name="toy-s0", group="toy", job_type="pool", tags=["toy"])

OFFLINE_RUN = """
import sys
from pathlib import Path
import torch
from PIL import Image
from teddy.runtime.loggers import open_log

folder = Path(sys.argv[1])
log = open_log(folder / "run", "auto", "teddy", "toy-s0", "toy", "pool", ["toy", "ipc10"],
               {"seed": 3, "synthesis": {"ipc": 10}})
for step in range(3):
    log.scalars("synthesis", step, {"synthesis/loss": 3.0 - step})
log.scalars("evaluation/resnet18/seed0", 9, {"evaluation/loss": 0.5})
Image.new("RGB", (12, 8), (200, 30, 40)).save(folder / "sheet.png")
log.image("synthesis/images", folder / "sheet.png", "ten classes")
log.table("report/results", ["student", "top1"], [["resnet18", 61.2]])
(folder / "teachers").mkdir()
(folder / "teachers" / "member.json").write_text("{}")
(folder / "teachers" / ".lock").touch()
curves = list(range(5000))
log.artifact("toy a/b", "teachers", folder / "teachers", {"fingerprint": "f001", "members": 1}, made=False)
log.artifact("toy-images", "synset", [folder / "sheet.png"], {"fingerprint": "f002", "history": curves}, ["toy a/b"])
log.artifact("toy-labels", "labels", None, {"fingerprint": "f003"}, parents=["toy a/b", "toy-images"])
fit = log.stage("synthesis/other", first_step=40)
fit.log_metrics({"synthesis/loss": 1.5, "epoch": 0}, step=2)
fit.log_image("synthesis/images", torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1).expand(12, 1, 4, 6), 3, "twelve")
log.summary({"student/resnet18/top1": 61.2})
log.finish(0)
"""


@pytest.fixture(scope="module")
def offline_run(tmp_path_factory):
    """One real offline W&B run, made in its own process; the folder it was told to use."""
    folder = tmp_path_factory.mktemp("offline")
    environment = {
        **os.environ,
        "WANDB_MODE": "offline",
        "HOME": str(folder),
        "PYTHONPATH": str(Path(teddy.__file__).parents[1]),
    }
    command = [sys.executable, "-c", OFFLINE_RUN, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr == "", "W&B shall be silent"
    return folder


@pytest.fixture(scope="module")
def record(offline_run, read_wandb):
    """The run's end."""
    return json.loads(read_wandb(offline_run / "run", "--summary"))


@pytest.fixture(scope="module")
def artifacts(offline_run, read_wandb):
    """The artifacts with metadata (W&B makes others of its own, such as a table's) by name; the metadata as an object."""
    found = [json.loads(line) for line in read_wandb(offline_run / "run").splitlines()]
    records = [one["artifact"] for one in found if "metadata" in one.get("artifact", {})]
    return {one["name"]: {**one, "metadata": json.loads(one["metadata"])} for one in records}


def test_wandb_holds_config_name_tags_and_a_clean_end(record):
    assert record["config"] == {"seed": 3, "synthesis": {"ipc": 10}}
    assert record["name"] == "toy-s0"
    assert record["tags"] == ["toy", "ipc10"]
    assert (record["state"], record["exit_code"]) == ("finished", 0)


def test_wandb_holds_the_numbers_with_a_step_of_their_own(record):
    summary = record["summary"]
    assert summary["student/resnet18/top1"] == 61.2
    assert (summary["synthesis/loss"], summary["synthesis/step"]) == (1.0, 2)
    assert summary["evaluation/resnet18/seed0/loss"] == 0.5
    assert summary["evaluation/resnet18/seed0/step"] == 9
    assert summary["report/results"]["nrows"] == 1


def test_wandb_holds_the_picture(offline_run, record):
    entry = record["summary"]["synthesis/images"]
    assert (entry["width"], entry["height"], entry["caption"]) == (12, 8, "ten classes")
    (picture,) = (offline_run / "run" / "wandb").glob(f"offline-run-*/files/{entry['path']}")
    assert picture.read_bytes() == (offline_run / "sheet.png").read_bytes()


def test_a_picture_of_a_fit_is_a_grid_at_a_step_that_counts_from_the_fit_s_start(offline_run, record):
    summary = record["summary"]
    assert summary["synthesis/other/step"] == 43
    entry = summary["synthesis/other/images"]
    assert entry["caption"] == "twelve"
    (path,) = (offline_run / "run" / "wandb").glob(f"offline-run-*/files/{entry['path']}")
    with Image.open(path) as picture:
        assert picture.size == (10 * 8 + 2, 2 * 6 + 2), "ten in a row, two pixels between them"
        # The top left corners: 0 to 9 in the first row, 10 and 11 in the second.
        shown = [picture.getpixel((2 + 8 * (i % 10), 2 + 6 * (i // 10)))[0] for i in range(12)]
    assert shown == list(range(12))


def test_a_resumed_fit_s_curve_goes_on(offline_run):
    rows = read_curve(offline_run / "run" / "curves" / "synthesis-other.csv")
    assert rows == [{"step": "42", "synthesis/loss": "1.5"}], (
        "and Lightning's epoch, which begins anew, is no part of it"
    )


def test_artifacts_know_what_they_were_made_from(artifacts):
    assert {name: one["type"] for name, one in artifacts.items()} == {
        "toy-a-b": "teachers",
        "toy-images": "synset",
        "toy-labels": "labels",
    }
    assert artifacts["toy-a-b"]["metadata"] == {"fingerprint": "f001", "members": 1, "parents": {}}
    assert artifacts["toy-images"]["metadata"] == {"fingerprint": "f002", "parents": {"toy-a-b": "f001"}}
    assert artifacts["toy-labels"]["metadata"]["parents"] == {"toy-a-b": "f001", "toy-images": "f002"}
    assert all(one["metadata"]["fingerprint"] in one["aliases"] for one in artifacts.values())


def test_what_was_found_is_an_input_of_the_run_and_what_was_made_an_output(artifacts):
    inputs = {name for name, one in artifacts.items() if one.get("use_after_commit") and one.get("user_created")}
    assert inputs == {"toy-a-b"}
    assert not any(one.get("use_after_commit") for name, one in artifacts.items() if name not in inputs)


def test_artifacts_list_their_files_and_a_note_of_their_own(offline_run, artifacts):
    files = {name: {entry["path"]: entry for entry in one["manifest"]["contents"]} for name, one in artifacts.items()}
    assert {name: sorted(entries) for name, entries in files.items()} == {
        "toy-a-b": ["artifact.json", "member.json"],
        "toy-images": ["artifact.json", "sheet.png"],
        "toy-labels": ["artifact.json"],
    }
    assert files["toy-images"]["sheet.png"]["local_path"] == str(offline_run / "sheet.png"), (
        "uploaded from where it lies"
    )
    note = Path(files["toy-labels"]["artifact.json"]["local_path"])
    assert note.is_relative_to(offline_run / "run" / "wandb")
    assert json.loads(note.read_text()) == {
        "name": "toy-labels",
        "type": "labels",
        "fingerprint": "f003",
        "parents": {"toy-a-b": "f001", "toy-images": "f002"},
    }


def test_the_same_work_is_the_same_version(tmp_path, monkeypatch):
    """W&B keeps one version for one digest: it must depend on the work alone, not on the run or its clock."""
    monkeypatch.setenv("HOME", str(tmp_path))
    digests = []
    for index, work in enumerate(("f002", "f002", "f004")):
        made = {}

        class Run:
            dir = str(tmp_path / str(index) / "files")

            def log_artifact(self, artifact, aliases, made=made):
                made["artifact"] = artifact

        (tmp_path / str(index)).mkdir()
        log = RunLog(tmp_path, Run())
        log.artifact("toy-images", "synset", None, {"fingerprint": work, "seconds": index})
        digests.append(made["artifact"].digest)
    assert digests[0] == digests[1] != digests[2]


def test_the_files_beside_wandb_say_the_same(offline_run):
    rows = read_curve(offline_run / "run" / "curves" / "synthesis.csv")
    assert [(row["step"], row["synthesis/loss"]) for row in rows] == [("0", "3.0"), ("1", "2.0"), ("2", "1.0")]
    assert json.loads((offline_run / "run" / "summary.json").read_text()) == {"student/resnet18/top1": 61.2}


class Line(L.LightningModule):
    """Fits y = 0 with one weight; logs its loss under the name that the stage uses."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def training_step(self, batch, index):
        loss = (self.weight**2).sum()
        self.log("pool/loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.25)  # halves the weight at each step


def test_lightning_s_metrics_reach_the_curve(tmp_path):
    log = open_log(tmp_path / "run", "disabled", config={}, **WHERE)
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        logger=log.stage("pool"),
        accelerator="cpu",
        max_epochs=1,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(Line(), range(3))
    log.finish(0)
    rows = read_curve(log.curve_path("pool"))
    assert [float(row["pool/loss"]) for row in rows] == [1.0, 0.25, 0.0625]
    assert [row["step"] for row in rows] == ["0", "1", "2"]
    assert set(rows[0]) == {"step", "pool/loss"}


def test_disabled_writes_files_and_no_wandb(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "teddy"):
        log = open_log(tmp_path, "disabled", config={}, **WHERE)
    log.scalars("pool", 1, {"pool/loss": torch.tensor(0.5)})
    log.summary({"a": 1})
    log.summary({"b": 2})
    log.image("x/y", tmp_path / "none.png")
    log.stage("synthesis").log_image("synthesis/images", torch.zeros(1, 1, 2, 2, dtype=torch.uint8), 1)
    log.artifact("x", "y", tmp_path, {"fingerprint": "f"})
    log.finish(0)
    assert not (tmp_path / "wandb").exists()
    assert json.loads((tmp_path / "summary.json").read_text()) == {"a": 1, "b": 2}
    assert len(caplog.messages) == 1
    assert "disabled" in caplog.text


def test_each_fit_of_a_stage_has_its_own_curve(tmp_path):
    log = RunLog(tmp_path)
    for seed in range(2):
        log.scalars(f"evaluation/resnet18/seed{seed}", 1, {"evaluation/loss": seed})
    assert read_curve(tmp_path / "curves" / "evaluation-resnet18-seed1.csv")[0]["evaluation/loss"] == "1.0"


def test_a_run_survives_wandb_failing_at_the_end(tmp_path, caplog):
    class Broken:
        def finish(self, exit_code):
            raise ConnectionError("no route")

    RunLog(tmp_path, Broken()).finish(0)
    assert "no route" in caplog.text
