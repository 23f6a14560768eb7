"""Several processes: how they start, and what Lightning makes of them."""

from __future__ import annotations

import csv
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import teddy
from teddy.config.errors import UserError
from teddy.runtime import distributed

LAUNCHER_NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID", "SLURM_PROCID", "SLURM_NTASKS")


@pytest.fixture
def started(monkeypatch):
    """A process that no launcher has started; what it would turn into."""
    commands = []
    for name in (*LAUNCHER_NAMES, "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "execv", lambda path, words: commands.append((path, words)))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    yield commands
    for name in ("OMP_NUM_THREADS",):
        os.environ.pop(name, None)


def test_one_device_needs_no_launcher(started):
    distributed.launch(1, 1, ["trainer=cpu"])
    distributed.init("cpu")
    assert started == []
    assert (distributed.rank(), distributed.world_size(), distributed.is_leader()) == (0, 1, True)
    assert distributed.broadcast({"any": object}) == {"any": object}
    distributed.barrier()


def test_several_devices_become_torchrun_with_the_same_arguments(started):
    distributed.launch(2, 1, ["trainer=ddp", "seed=3"])
    ((path, words),) = started
    assert path == words[0] == sys.executable
    torchrun = ["-m", "teddy.runtime.torchrun", "--standalone", "--nproc-per-node", "2"]
    assert words[1:] == [*torchrun, "-m", "teddy", "trainer=ddp", "seed=3"]
    assert os.environ["OMP_NUM_THREADS"] == "4"


@pytest.mark.parametrize(
    "environment", [{"RANK": "1"}, {"TORCHELASTIC_RUN_ID": "x"}, {"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}]
)
def test_processes_that_were_started_already_start_no_others(started, monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    distributed.launch(2, 1, [])
    assert started == []


def test_the_only_task_of_a_slurm_job_starts_its_processes_itself(started, monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    distributed.launch(2, 1, [])
    assert len(started) == 1


def test_several_machines_need_a_launcher(started):
    with pytest.raises(UserError, match=r"trainer\.num_nodes=2 .* srun, or as `torchrun --nnodes 2 --nproc-per-node 4"):
        distributed.launch(4, 2, [])


def test_too_few_processes_are_refused(started, monkeypatch):
    with pytest.raises(UserError, match=r"trainer\.devices=2 needs 2 processes .* or set trainer\.devices=1"):
        distributed.init("cpu", devices=2)
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"3 processes were started, but trainer\.devices=1 .* ask for 1"):
        distributed.init("cpu")


FITS = """
import json, logging, sys
from functools import partial
from pathlib import Path
import lightning as L, torch
from lightning.pytorch.loggers import CSVLogger
from teddy.runtime import distributed
from teddy.runtime.device import DeviceConfig
from teddy.runtime.loggers import open_loggers
from teddy.runtime.progress import ProgressCallback
from teddy.runtime.resume import ResumePoint
from teddy.runtime.trainer import make_trainer

folder = Path(sys.argv[1])
distributed.init("cpu", devices=2)
rank = distributed.rank()
seen = {"world": distributed.world_size(), "leader": distributed.is_leader(), "word": distributed.broadcast(f"of {rank}")}
seen["level"] = logging.getLogger("teddy").getEffectiveLevel()
log = open_loggers({"csv": partial(CSVLogger, name="curves", version="", flush_logs_every_n_steps=1)},
                   folder, "toy", "toy", "pool", [], {})


class Count(L.Callback):
    fits = 0

    def on_train_start(self, trainer, module):
        Count.fits += 1


class Fit(L.LightningModule):
    first_epoch = 0

    def __init__(self, stage):
        super().__init__()
        self.stage = stage
        self.network = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.ones_(self.network.weight)

    def training_step(self, batch, index):
        loss = (self.network(torch.full((1, 1), rank + 1.0)) ** 2).sum()
        self.log(f"{self.stage}/loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


config = DeviceConfig("cpu", "32-true", devices=2, strategy="ddp", callbacks=lambda: [Count()])
for name, single, steps in (("pool", False, 3), ("synthesis", True, 3 + 2 * rank), ("pool", False, 3)):
    module, point = Fit(name), ResumePoint(folder / f"{rank}-{name}.safetensors")
    trainer = make_trainer(config, max_epochs=1, folder=folder, logger=log.stage(name), log_every=1, single=single,
                           callbacks=[point, ProgressCallback(name, steps)])
    trainer.fit(module, range(steps))
    seen[f"{name} {single}"] = [trainer.world_size, module.network.weight.item()]
seen["fits"] = Count.fits
distributed.barrier()
log.finish(0)
print(json.dumps(seen), file=(folder / f"{rank}.json").open("w"))
"""


def run_twice(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a program with ``folder`` as its argument in two processes of one group."""
    (folder / "program.py").write_text(program)
    torchrun = [sys.executable, "-m", "teddy.runtime.torchrun", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(teddy.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [*torchrun, str(folder / "program.py"), str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    """A fit under DDP, a fit of its own in each process, and one under DDP again."""
    folder = tmp_path_factory.mktemp("fits")
    done = run_twice(FITS, folder)
    assert done.returncode == 0, done.stderr
    return folder, [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)], done


def test_the_processes_form_one_group_with_a_leader(fits):
    _, (first, second), _ = fits
    assert (first["world"], first["leader"], first["word"]) == (2, True, "of 0")
    assert (second["world"], second["leader"], second["word"]) == (2, False, "of 0")


def test_a_network_s_gradient_is_the_mean_over_the_processes(fits):
    """The loss of process r is ((r + 1) w)², so the mean gradient is (2 + 8) w / 2 and each step multiplies w by 1 - 0.05."""
    _, seen, _ = fits
    for one in seen:
        assert one["pool False"] == [2, pytest.approx(0.95**3)]
        assert one["fits"] == 2, "the user's callbacks are part of fits of networks alone"


def test_single_fits_are_each_process_s_own_between_fits_under_ddp(fits):
    _, (first, second), _ = fits
    assert first["synthesis True"] == [1, pytest.approx(0.98**3)]
    assert second["synthesis True"] == [1, pytest.approx(0.92**5)]


def test_only_the_leader_logs_shows_progress_and_writes_points(fits):
    folder, (first, second), done = fits
    with (folder / "curves" / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows if row["pool/loss"]] == ["0", "1", "2"] * 2
    assert [float(row["synthesis/loss"]) for row in rows if row["synthesis/loss"]] == pytest.approx(
        [0.98 ** (2 * step) for step in range(3)]
    )
    assert sorted(path.name for path in folder.glob("*.safetensors")) == [
        "0-pool.safetensors",
        "0-synthesis.safetensors",
    ]
    assert done.stderr.count("done in") == 3
    assert second["level"] == logging.ERROR != first["level"]


def test_no_process_group_is_left_in_this_process():
    assert not torch.distributed.is_initialized()
