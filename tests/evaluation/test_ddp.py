"""A student under DDP, two gloo processes started by torchrun, against the same student in one process."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from teddy.runtime.resume import load_tensors

SCRIPT = """
import json
import sys
from pathlib import Path

import lightning as L
import torch

from teddy.data.images import TensorImages
from teddy.data.spec import DatasetSpec
from teddy.evaluation.datamodule import DistilledViews
from teddy.evaluation.protocol import Protocol
from teddy.evaluation.student import StudentTraining
from teddy.labels.sources import HardLabels
from teddy.labels.views import ViewMaker, ViewRecipe
from teddy.models.networks import build_network
from teddy.runtime.resume import save_tensors

SPEC = DatasetSpec("blobs", 3, 1, 8, (0.5,), (0.25,), ("a", "b", "c"), ("0", "1", "2"))
PROTOCOL = Protocol("hard", "views", "sgd", 0.05, 0.9, 0.0, batch_size=8, epochs=12, schedule="cosine", eta=1.0)


def blobs(n, seed):
    labels = torch.arange(n) % 3
    images = 110 + 40 * torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    for index, label in enumerate(labels.tolist()):
        images[index, 0, 2:6, 2 * label : 2 * label + 3] += 60
    return TensorImages(images.clamp(0, 255).byte(), labels)


def train(folder, name, seed, devices, strategy):
    images = blobs(24, 1)
    source = HardLabels(images.labels, 3)
    views = ViewMaker(images.images, SPEC, ViewRecipe(min_scale=0.7, flip=0.0), 9)
    seen = []

    class Recording(StudentTraining):
        def training_step(self, batch, batch_idx):
            seen.append(len(batch[0]))
            return super().training_step(batch, batch_idx)

    module = Recording(build_network(name, 3, 1, 8, seed=seed), PROTOCOL, source.loss, 3, seed)
    data = DistilledViews(views, source, PROTOCOL.batch_size, seed, SPEC, lambda: blobs(61, 2))
    trainer = L.Trainer(
        accelerator="cpu", devices=devices, strategy=strategy, max_epochs=PROTOCOL.epochs, default_root_dir=folder,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, limit_val_batches=0,
    )
    trainer.fit(module, datamodule=data)
    (result,) = trainer.test(module, datamodule=data, verbose=False)
    if trainer.is_global_zero:
        stem = f"{name}-{seed}-{devices}"
        save_tensors(folder / f"{stem}.safetensors", module.network.state_dict())
        (folder / f"{stem}.json").write_text(json.dumps({"top1": result["test/top1"], "seen": seen}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, devices, strategy = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    for run in sys.argv[4:]:
        name, _, seed = run.partition(":")
        train(folder, name, int(seed), devices, strategy)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """Holds the weights and accuracies of students in one process (three seeds) and in two (one seed)."""
    folder = tmp_path_factory.mktemp("ddp")
    script = folder / "train.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(repo_root / "src"), "OMP_NUM_THREADS": "1"}
    single = [sys.executable, script, folder, "1", "auto", *(f"convnet2_w4:{seed}" for seed in range(3))]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    double = [*torchrun, script, folder, "2", "ddp", "convnet2_w4:0"]
    for command in ([*single, "convnet2_w4_none:0"], [*double, "convnet2_w4_none:0"]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def result(folder: Path, name: str, seed: int, devices: int) -> dict:
    return json.loads((folder / f"{name}-{seed}-{devices}.json").read_text())


def test_two_processes_share_each_batch(folder: Path) -> None:
    assert result(folder, "convnet2_w4", 0, 1)["seen"] == [8] * 36
    assert result(folder, "convnet2_w4", 0, 2)["seen"] == [4] * 36


def test_without_batchnorm_the_weights_are_those_of_one_process(folder: Path) -> None:
    one, two = (load_tensors(folder / f"convnet2_w4_none-0-{devices}.safetensors")[0] for devices in (1, 2))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-5, rtol=1e-4)
    assert result(folder, "convnet2_w4_none", 0, 1)["top1"] == result(folder, "convnet2_w4_none", 0, 2)["top1"]


def test_with_batchnorm_the_accuracy_is_within_the_spread_of_one_process(folder: Path) -> None:
    single = [result(folder, "convnet2_w4", seed, 1)["top1"] for seed in range(3)]
    assert statistics.mean(single) > 70, "the student learns"
    found = result(folder, "convnet2_w4", 0, 2)["top1"]
    assert abs(found - statistics.mean(single)) <= max(3 * statistics.stdev(single), 3.0)
