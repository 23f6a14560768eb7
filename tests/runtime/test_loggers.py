import csv
import io
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import teddy
from teddy.config.errors import UserError
from teddy.runtime import wandb_run
from teddy.runtime.loggers import RunLog, open_loggers
from teddy.runtime.wandb_run import WandbRun

RUN = dict(name="toy-s0", group="toy", job_type="pool", tags=["toy"], config={"seed": 3, "synthesis": {"ipc": 10}})
CSV = partial(CSVLogger, name="curves", version="", flush_logs_every_n_steps=1)


def rows_of(folder: Path) -> list[dict[str, str]]:
    """The rows of the CSV logger, without the cells that are empty."""
    with (folder / "curves" / "metrics.csv").open(newline="") as stream:
        return [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(stream)]


OFFLINE_RUN = """
import os, sys
from functools import partial
from pathlib import Path
import pandas as pd
import torch
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from PIL import Image
from teddy.runtime.loggers import open_loggers

folder = Path(sys.argv[1])
factories = {
    "csv": partial(CSVLogger, name="curves", version="", flush_logs_every_n_steps=1),
    "wandb": partial(WandbLogger, project="teddy", entity=None, offline=None),
}
log = open_loggers(factories, folder / "run", "toy-s0", "toy", "pool", ["toy", "ipc10"],
                   {"seed": 3, "synthesis": {"ipc": 10}})
assert os.environ["WANDB_MODE"] == "offline"
for step in range(3):
    log.stage("synthesis").log_metrics({"synthesis/loss": 3.0 - step}, step)
log.stage("evaluation/resnet18/seed0").log_metrics({"evaluation/loss": 0.5}, 9)
(folder / "images").mkdir()
Image.new("RGB", (12, 8), (200, 30, 40)).save(folder / "images" / "grid.png")
log.image("report/grid", folder / "images" / "grid.png")
log.wandb.table("report/results", pd.DataFrame({"student": ["resnet18"], "top1": [61.2]}))
(folder / "teachers").mkdir()
(folder / "teachers" / "member.json").write_text("{}")
(folder / "teachers" / ".lock").touch()
curves = list(range(5000))
log.wandb.artifact("toy a/b", "teachers", folder / "teachers", {"fingerprint": "f001", "members": 1}, made=False)
log.wandb.artifact("toy-images", "synset", folder / "images", {"fingerprint": "f002", "history": curves}, ["toy a/b"])
log.wandb.artifact("toy-labels", "labels", None, {"fingerprint": "f003"}, parents=["toy a/b", "toy-images"])
fit = log.stage("synthesis/other", first_step=40)
fit.log_metrics({"synthesis/loss": 1.5, "epoch": 0}, step=2)
fit.log_image("synthesis/images", torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1).expand(12, 1, 4, 6), 3, "twelve")
log.summary({"student/resnet18/top1": 61.2})
log.finish(0)
"""


@pytest.fixture(scope="module")
def offline_run(tmp_path_factory):
    """One real offline W&B run, made in its own process; the folder it was given."""
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


def test_wandb_holds_the_image(offline_run, record):
    entry = record["summary"]["report/grid"]
    assert (entry["width"], entry["height"]) == (12, 8)
    (picture,) = (offline_run / "run" / "wandb").glob(f"offline-run-*/files/{entry['path']}")
    assert picture.read_bytes() == (offline_run / "images" / "grid.png").read_bytes()


def test_an_image_of_a_fit_is_a_grid_at_a_step_that_counts_from_the_fit_s_start(offline_run, record):
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
    rows = [row for row in rows_of(offline_run / "run") if "synthesis/other/loss" in row]
    assert rows == [{"step": "42", "synthesis/other/loss": "1.5"}], (
        "Lightning's epoch, which counts from 0 again, is not logged"
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
        "toy-images": ["artifact.json", "grid.png"],
        "toy-labels": ["artifact.json"],
    }
    assert files["toy-images"]["grid.png"]["local_path"] == str(offline_run / "images" / "grid.png"), (
        "uploaded from where it is"
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
        WandbRun(Run()).artifact("toy-images", "synset", None, {"fingerprint": work, "seconds": index})
        digests.append(made["artifact"].digest)
    assert digests[0] == digests[1] != digests[2]


def test_the_csv_file_holds_the_same_numbers(offline_run):
    rows = rows_of(offline_run / "run")
    assert [row for row in rows if "synthesis/loss" in row] == [
        {"step": str(step), "synthesis/loss": str(3.0 - step)} for step in range(3)
    ]
    assert {"step": "9", "evaluation/resnet18/seed0/loss": "0.5"} in rows
    assert rows[-1] == {"step": "0", "student/resnet18/top1": "61.2"}
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


def fit(folder: Path, logger: Logger, steps: int = 3) -> None:
    trainer = L.Trainer(
        default_root_dir=folder,
        logger=logger,
        accelerator="cpu",
        max_epochs=1,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(Line(), range(steps))


def test_lightning_s_metrics_reach_the_csv_file(tmp_path):
    log = open_loggers({"csv": CSV}, tmp_path / "run", **RUN)
    fit(tmp_path, log.stage("pool"))
    assert rows_of(tmp_path / "run") == [
        {"step": "0", "pool/loss": "1.0"},
        {"step": "1", "pool/loss": "0.25"},
        {"step": "2", "pool/loss": "0.0625"},
    ], "also before the log is closed"
    log.finish(0)
    assert not (tmp_path / "run" / "wandb").exists()


def test_fits_share_one_file_and_keep_their_columns(tmp_path):
    log = open_loggers({"csv": CSV}, tmp_path, **RUN)
    log.stage("pool").log_metrics({"pool/loss": torch.tensor(0.5)}, 7)
    for seed in range(2):
        log.stage(f"evaluation/resnet18/{seed}").log_metrics({"evaluation/loss": seed}, 1)
    assert rows_of(tmp_path) == [
        {"step": "7", "pool/loss": "0.5"},
        {"step": "1", "evaluation/resnet18/0/loss": "0.0"},
        {"step": "1", "evaluation/resnet18/1/loss": "1.0"},
    ]


def test_tensorboard_holds_curves_images_and_final_numbers(tmp_path):
    factory = partial(TensorBoardLogger, name="tensorboard", version="", default_hp_metric=False)
    log = open_loggers({"tensorboard": factory}, tmp_path / "run", **RUN)
    fit(tmp_path, log.stage("pool", first_step=40))
    images = torch.arange(2, dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 4, 6)
    log.stage("synthesis").log_image("synthesis/images", images, step=5)
    Image.new("RGB", (12, 8), (200, 30, 40)).save(tmp_path / "figure.png")
    log.image("report/figure", tmp_path / "figure.png")
    log.summary({"student/resnet18/top1": 61.25, "method": "text is not for TensorBoard"})
    log.finish(0)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    curve = [(event.step, event.value) for event in events.Scalars("pool/loss")]
    assert curve == [(40, 1.0), (41, 0.25), (42, 0.0625)]
    assert [event.value for event in events.Scalars("student/resnet18/top1")] == [61.25]
    (grid,) = events.Images("synthesis/images")
    assert (grid.step, grid.width, grid.height) == (5, 2 * 8 + 2, 6 + 2)
    (figure,) = events.Images("report/figure")
    assert np.asarray(Image.open(io.BytesIO(figure.encoded_image_string)))[0, 0].tolist() == [200, 30, 40]


class Recorder(Logger):
    """A logger of another package: it names its run differently and has a method for images."""

    def __init__(self, run_name: str = "", project: str = "theirs") -> None:
        super().__init__()
        self.run_name, self.project, self.calls = run_name, project, []

    name, version = "recorder", "0"

    def log_metrics(self, metrics, step=None):
        self.calls.append(("metrics", metrics, step))

    def log_hyperparams(self, params):
        self.calls.append(("config", params))

    def log_image(self, key, images, step=None):
        self.calls.append(("image", key, [image.shape for image in images], step))

    def finalize(self, status):
        self.calls.append(("finalize", status))


def test_any_lightning_logger_is_given_what_it_accepts(tmp_path):
    log = open_loggers({"theirs": partial(Recorder, project="mine")}, tmp_path, **RUN)
    (logger,) = log.loggers
    assert (logger.run_name, logger.project) == ("toy-s0", "mine")
    log.stage("pool").log_metrics({"pool/loss": 2}, 1)
    log.stage("pool").log_image("pool/images", torch.zeros(3, 1, 2, 2, dtype=torch.uint8), 4)
    log.finish(1)
    assert logger.calls == [
        ("config", RUN["config"]),
        ("metrics", {"pool/loss": 2.0}, 1),
        ("image", "pool/images", [(4 + 2, 3 * 4 + 2, 3)], 4),
        ("finalize", "failed"),
    ]


class Client:
    """The two methods of MLflow's client that show something, by its signatures."""

    def __init__(self):
        self.calls = []

    def log_image(self, run_id, image, artifact_file=None, key=None, step=None):
        self.calls.append((run_id, "image", key, image.shape, step))

    def log_text(self, run_id, text, artifact_file):
        self.calls.append((run_id, "text", artifact_file, text))


def test_mlflow_is_given_images_and_text(tmp_path):
    class Mlflow(Recorder):
        log_image = property()  # Lightning's logger for it has none
        run_id, experiment = "r1", Client()

    log = open_loggers({"mlflow": Mlflow}, tmp_path, **RUN)
    log.stage("synthesis/ours").log_image("synthesis/images", torch.zeros(1, 1, 2, 2, dtype=torch.uint8), 4)
    log.text("lineage/ours", "- images")
    assert Mlflow.experiment.calls == [
        ("r1", "image", "synthesis/ours/images", (2, 2, 3), 4),
        ("r1", "text", "lineage/ours.md", "- images"),
    ]


def test_configured_arguments_win_over_the_run_s(tmp_path):
    csv_elsewhere = partial(CSVLogger, save_dir=str(tmp_path / "other"), name="mine", version="1")
    log = open_loggers({"csv": csv_elsewhere}, tmp_path / "run", **RUN)
    log.stage("pool").log_metrics({"pool/loss": 1.0}, 0)
    log.finish(0)
    assert (tmp_path / "other" / "mine" / "1" / "metrics.csv").is_file()


def test_a_logger_without_its_package_is_refused(tmp_path):
    def factory(save_dir):
        raise ModuleNotFoundError("No module named 'mlflow'")

    with pytest.raises(
        UserError, match="logger=mlflow needs a package that is not installed: No module named 'mlflow'"
    ):
        open_loggers({"mlflow": factory}, tmp_path, **RUN)


def test_a_server_that_accepts_and_never_answers_is_given_up_after_seconds(tmp_path, monkeypatch):
    """MLflow alone would try for minutes."""
    monkeypatch.setattr(wandb_run, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(UserError, match=f"logger=mlflow: the server {address} does not answer"):
            open_loggers({"mlflow": partial(CSVLogger, tracking_uri=address)}, tmp_path, **RUN)
        assert time.monotonic() - began < 3


def test_a_name_that_is_looked_up_for_ever_is_given_up_too(monkeypatch):
    monkeypatch.setattr(wandb_run, "PATIENCE", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: time.sleep(4))
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        wandb_run.reach("http://nowhere.example")
    assert time.monotonic() - began < 3


def test_an_answer_of_any_kind_is_an_answer():
    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(403)

        def log_message(self, *arguments):
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.handle_request).start()
        wandb_run.reach(f"http://127.0.0.1:{server.server_port}")


def test_disabled_wandb_leaves_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with caplog.at_level(logging.INFO, "teddy"):
        log = open_loggers({"wandb": partial(WandbLogger, offline=None)}, tmp_path, **RUN)
    log.stage("pool").log_metrics({"pool/loss": torch.tensor(0.5)}, 1)
    log.summary({"a": 1})
    log.summary({"b": 2})
    log.image("x/y", tmp_path / "none.png")
    log.stage("synthesis").log_image("synthesis/images", torch.zeros(1, 1, 2, 2, dtype=torch.uint8), 1)
    assert log.wandb is None
    log.finish(0)
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    assert json.loads((tmp_path / "summary.json").read_text()) == {"a": 1, "b": 2}
    assert caplog.messages == ["W&B disabled (WANDB_MODE=disabled)"]


def test_a_run_survives_wandb_failing(tmp_path, caplog):
    class Broken:
        def finish(self, exit_code=0):
            raise ConnectionError("no route")

        log = define_metric = summary = property(finish)

    log = RunLog(tmp_path, wandb=WandbRun(Broken()))
    for _ in range(3):
        log.stage("pool").log_metrics({"loss": 1.0}, 1)
        log.summary({"top1": 2.0})
    assert caplog.messages == ["W&B failed (no route); nothing more is sent there, and the run goes on."]
    assert json.loads((tmp_path / "summary.json").read_text()) == {"top1": 2.0}
    log.finish(0)
    assert caplog.messages[1:] == ["W&B could not close its run (no route); the results on disk are complete."]
