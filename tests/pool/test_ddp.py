"""Teachers that two processes train together, against teachers of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
from pathlib import Path

import torch

from teddy.artifacts.store import ArtifactStore
from teddy.data.augment import Augmentation
from teddy.data.datamodule import stratified_split
from teddy.data.dataset import RealDataset
from teddy.data.images import TensorImages, subset
from teddy.data.sources.base import Loaded
from teddy.pool.post import PostPool
from teddy.pool.prior import PriorPool
from teddy.pool.schedule import Recipe
from teddy.pool.trajectory import BaseTraining
from teddy.runtime.device import DeviceConfig
from teddy.runtime.distributed import init, is_leader
from teddy.runtime.loggers import RunLog


def blobs(n, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    images = 110 + 70 * torch.randn(n, 1, 8, 8, generator=generator)
    for index, label in enumerate(labels.tolist()):
        images[index, 0, 2:6, 2 * label : 2 * label + 3] += 60
    return TensorImages(images.clamp(0, 255).byte(), labels)


class Blobs:
    def fingerprint(self):
        return "blobs"

    def load(self):
        return Loaded(blobs(301, 1), blobs(599, 2), ("a", "b", "c"), ("0", "1", "2"), channels=1, size=8)


def right(pool, index, images):
    guesses = pool.load(index)(pool.spec.normalise(images.images)).argmax(1)
    return 100 * float((guesses == images.labels).double().mean())


torch.set_num_threads(1)
folder, devices, deterministic = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "deterministic"
strategy = "ddp" if devices > 1 else "auto"
config = DeviceConfig("cpu", "32-true", devices=devices, strategy=strategy, deterministic=deterministic)
init("cpu", devices)
for seed in map(int, sys.argv[4:]):
    base = BaseTraining(
        store=ArtifactStore(folder / "store"),
        dataset=RealDataset("blobs", Blobs(), mean=[0.5], std=[0.25]),
        network="convnet2_w8",
        recipe=Recipe(4, 0.05, 0.9, 1e-4, 20, "cosine", 1, 0.1, 0),
        augment=Augmentation("padded", padding=1),
        holdout=0.2,
        save_every=3,
        seed=seed,
        device_config=config,
        log=RunLog(folder / "log"),
    )
    post = PostPool(2, "trained", 0.7, None, 0.01, 1.0, 0.05, 0.005, 0.9, 1e-4, 20, recalibrate=100)
    pools = [PriorPool(1, 4, 3).make(base), post.make(base)]
    made = len(base.store.made)
    assert pools == [PriorPool(1, 4, 3).make(base), post.make(base)]  # found again by each process
    assert len(base.store.made) == made
    if is_leader():
        train = base.dataset.train
        held = subset(train, stratified_split(train.labels, base.holdout, seed)[1])
        facts = [
            [member.identity, member.top1_holdout, right(pool, index, held), right(pool, index, base.dataset.test)]
            for pool in pools
            for index, member in enumerate(pool.members)
        ]
        (folder / f"{seed}.json").write_text(json.dumps(facts))
"""

Facts = list[tuple[str, float, float, float]]


def run(folder: Path, devices: int, *seeds: int, mode: str = "fast") -> list[Facts]:
    folder.mkdir(exist_ok=True)
    (folder / "script.py").write_text(SCRIPT)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(devices)] if devices > 1 else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *torchrun, str(folder / "script.py"), str(folder), str(devices), mode, *map(str, seeds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{seed}.json").read_text()) for seed in seeds]


def test_two_processes_train_teachers_as_good_as_one_does(tmp_path: Path) -> None:
    alone = run(tmp_path / "one", 1, 1, 2, 3, 4)
    (together,) = run(tmp_path / "two", 2, 1)
    assert [fact[0] for fact in together] == [fact[0] for fact in alone[0]]  # the same artifacts
    for index, (_, top1, found, elsewhere) in enumerate(together):
        assert top1 == pytest.approx(found, abs=1e-3)  # of the weights that were saved, on all held-out images once
        values = [facts[index][3] for facts in alone]  # on more images than are held out
        spread = max(values) - min(values)
        assert min(values) - spread - 2 < elsewhere < max(values) + spread + 2, (elsewhere, values)
    assert together[1][3] > 80  # and it learned
    store = tmp_path / "two" / "store"
    assert not list(store.rglob(".partial-*"))
    assert len(list(store.rglob("manifest.json"))) == 3


def weights(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


def test_a_deterministic_run_trains_the_same_teachers_in_two_processes(tmp_path: Path) -> None:
    alone = run(tmp_path / "one", 1, 1, mode="deterministic")
    together = run(tmp_path / "two", 2, 1, mode="deterministic")
    assert alone == together
    assert len(weights(tmp_path / "one")) == 4, "epochs 3 and 4 of the training, and two pruned models"
    assert weights(tmp_path / "one") == weights(tmp_path / "two")
