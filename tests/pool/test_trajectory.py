"""One tiny training run as the store keeps it: snapshots, their accuracies, and what a kill may not change."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import Logger
from torch import nn
from torch.nn import functional as F

from teddy.artifacts.store import ArtifactStore
from teddy.config.errors import Diverged, UserError
from teddy.data.augment import Augmentation
from teddy.data.batches import EpochOrder
from teddy.data.datamodule import stratified_split
from teddy.data.dataset import RealDataset
from teddy.data.images import ImageSet, TensorImages
from teddy.data.sources.base import Loaded
from teddy.models.networks import build_network
from teddy.pool import trajectory as stage
from teddy.pool.members import Member, ModelPool
from teddy.pool.prior import PriorPool
from teddy.pool.schedule import Recipe
from teddy.pool.sharpness import GSAM, Sharpness
from teddy.pool.teacher import SnapshotPool, TeacherTraining
from teddy.pool.trajectory import BaseTraining, trajectory
from teddy.runtime import metrics
from teddy.runtime.device import DeviceConfig
from teddy.runtime.loggers import RunLog

CONSTANT = Recipe(
    epochs=3,
    lr=0.05,
    momentum=0.9,
    weight_decay=1e-4,
    batch_size=16,
    schedule="constant",
    step_size=1,
    gamma=0.1,
    warmup_epochs=0,
)
COSINE = replace(CONSTANT, epochs=4, schedule="cosine", warmup_epochs=1)
FLAT = replace(CONSTANT, epochs=2, sharpness=Sharpness(rho=0.1, alpha=0.5))


def blobs(n: int, seed: int, spread: float = 70.0) -> TensorImages:
    """Three classes: a bright square in one of three places, under noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    images = 110 + spread * torch.randn(n, 1, 8, 8, generator=generator)
    for index, label in enumerate(labels.tolist()):
        images[index, 0, 2:6, 2 * label : 2 * label + 3] += 60
    return TensorImages(images.clamp(0, 255).byte(), labels)


@dataclass
class InMemory:
    """A source whose identity is given, so that a test can change pixels without changing it; it has no test images."""

    train: TensorImages

    def fingerprint(self) -> str:
        return "blobs"

    def load(self) -> Loaded:
        return Loaded(self.train, cast(ImageSet, None), ("a", "b", "c"), ("0", "1", "2"), channels=1, size=8)


def dataset(train: TensorImages | None = None) -> RealDataset:
    return RealDataset("blobs", InMemory(train or blobs(90, seed=1)), mean=[0.5], std=[0.25])


def base(folder: Path, recipe: Recipe = CONSTANT, **changes: Any) -> BaseTraining:
    settings = dict(
        dataset=dataset(),
        network="convnet2_w8",
        augment=Augmentation("padded", padding=1, flip=False),
        holdout=0.2,
        save_every=2,
        seed=3,
        device_config=DeviceConfig("cpu", "32-true"),
        log=RunLog(folder / "log"),
    )
    return BaseTraining(store=ArtifactStore(folder / "store"), recipe=recipe, **{**settings, **changes})


def weights(members: list[Member]) -> dict[int, bytes]:
    return {member.epoch: member.file.read_bytes() for member in members}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[BaseTraining, list[Member]]:
    """An uninterrupted run of three epochs, of which 1 and 3 are saved."""
    made = base(tmp_path_factory.mktemp("whole"))
    return made, trajectory(made)


def test_the_saved_epochs_and_nothing_else_is_kept(whole: tuple[BaseTraining, list[Member]]) -> None:
    _, members = whole
    assert [member.epoch for member in members] == [1, 3]
    kept = {path.name for path in members[0].file.parent.iterdir()} - {".lock"}
    assert kept == {"epoch-0001.safetensors", "epoch-0003.safetensors", "manifest.json"}
    assert len({member.identity for member in members}) == 2


def test_facts_of_an_earlier_version_are_left_aside(tmp_path: Path, whole: tuple[BaseTraining, list[Member]]) -> None:
    """It also measured each snapshot on the test images."""
    shutil.copytree(whole[0].store.root, tmp_path / "store")
    (manifest,) = (tmp_path / "store").rglob("manifest.json")
    content = json.loads(manifest.read_text())
    for record in content["facts"]["members"]:
        record["top1_test"] = 50.0
    manifest.write_text(json.dumps(content))
    found = trajectory(base(tmp_path))
    assert [(one.epoch, one.top1_holdout) for one in found] == [(one.epoch, one.top1_holdout) for one in whole[1]]


def right_answers(network: nn.Module, images: TensorImages, indices: list[int]) -> float:
    """Percent, one image at a time."""
    right = 0
    for index in indices:
        pixels = (images.images[index].float() / 255 - 0.5) / 0.25
        right += int(int(network(pixels[None]).argmax()) == int(images.labels[index]))
    return 100 * right / len(indices)


def test_noted_accuracies_are_those_of_the_weights(whole: tuple[BaseTraining, list[Member]]) -> None:
    made, members = whole
    pool = ModelPool(tuple(members), made.dataset.spec, "prior")
    train = made.dataset.train
    _, held = stratified_split(train.labels, 0.2, seed=3)
    assert len(held) == 18
    for index, member in enumerate(members):
        network = pool.load(index)
        assert member.top1_holdout == pytest.approx(right_answers(network, train, held.tolist()), abs=1e-3)
    assert 45 < members[-1].top1_holdout < 100  # it learned, and there was something to get wrong


def slow_training(made: BaseTraining) -> nn.Module:
    """The same training without Lightning and its hooks."""
    recipe, train, spec = made.recipe, made.dataset.train, made.dataset.spec
    network = build_network(made.network, 3, 1, 8, seed=made.seed)
    kept, _ = stratified_split(train.labels, made.holdout, made.seed)
    options: dict[str, Any] = dict(lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    optimizer: torch.optim.Optimizer = torch.optim.SGD(network.parameters(), **options)
    if recipe.sharpness is not None:
        optimizer = GSAM(network.parameters(), recipe.sharpness, **options)
    for epoch in range(recipe.epochs):
        order = EpochOrder(kept, recipe.batch_size, made.seed)
        order.set_epoch(epoch)
        for _, indices in order:
            images = made.augment.apply(train.images[indices], indices, made.seed, epoch, cropped=False)
            images = spec.normalise(images).contiguous(memory_format=torch.channels_last)
            optimizer.param_groups[0]["lr"] = recipe.lr * recipe.factor(epoch)

            def closure(images: torch.Tensor = images, labels: torch.Tensor = train.labels[indices]) -> torch.Tensor:
                optimizer.zero_grad()
                loss = F.cross_entropy(network(images), labels)
                loss.backward()
                return loss

            optimizer.step(closure)
    return network


@pytest.mark.parametrize("recipe", [CONSTANT, COSINE, FLAT])
def test_training_is_a_plain_loop_bit_for_bit(tmp_path: Path, recipe: Recipe) -> None:
    made = base(tmp_path, recipe)
    members = trajectory(made)
    last = ModelPool(tuple(members), made.dataset.spec, "prior").load(len(members) - 1).state_dict()
    for key, value in slow_training(made).state_dict().items():
        assert torch.equal(last[key], value), key


def test_a_snapshot_is_where_a_shorter_run_ends(tmp_path: Path, whole: tuple[BaseTraining, list[Member]]) -> None:
    short = trajectory(base(tmp_path, replace(CONSTANT, epochs=1)))
    assert weights(short)[1] == weights(whole[1])[1]


def test_held_out_images_are_never_trained_on(tmp_path: Path, whole: tuple[BaseTraining, list[Member]]) -> None:
    images = blobs(90, seed=1)
    kept, held = stratified_split(images.labels, 0.2, seed=3)
    images.images[held] = torch.randint(0, 256, (18, 1, 8, 8), dtype=torch.uint8)
    members = trajectory(base(tmp_path / "held", dataset=dataset(images)))
    assert weights(members) == weights(whole[1])
    images = blobs(90, seed=1)
    images.images[kept[7]] = 255 - images.images[kept[7]]
    members = trajectory(base(tmp_path / "kept", dataset=dataset(images)))
    assert weights(members)[1] != weights(whole[1])[1]


class PowerCut(Exception):
    pass


def cut_in_epoch(patch: pytest.MonkeyPatch, epoch: int) -> None:
    """Training ends in the midst of ``epoch``, counted from 1."""
    step = TeacherTraining.training_step

    def stop(self: TeacherTraining, batch: Any, batch_idx: int) -> torch.Tensor:
        if (self.epochs_done, batch_idx) == (epoch, 2):
            raise PowerCut
        return step(self, batch, batch_idx)

    patch.setattr(TeacherTraining, "training_step", stop)


def cut_after_snapshot(patch: pytest.MonkeyPatch, epoch: int) -> None:
    """Training ends when the snapshot of ``epoch`` is written and measured, but not yet resumable."""
    keep = SnapshotPool.on_train_epoch_end

    def stop(self: SnapshotPool, trainer: Any, module: Any) -> None:
        keep(self, trainer, module)
        if module.epochs_done == epoch:
            raise PowerCut

    patch.setattr(SnapshotPool, "on_train_epoch_end", stop)


@pytest.mark.parametrize(("patience", "again"), [(0.0, [3, 4]), (1e9, [1, 2, 3, 4])], ids=["each epoch", "never"])
@pytest.mark.parametrize("cut", [cut_in_epoch, cut_after_snapshot])
def test_a_run_that_was_cut_off_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: Any, patience: float, again: list[int]
) -> None:
    """From the last point that there was time for."""
    monkeypatch.setattr(stage, "RESUME_SECONDS", patience)
    expected = trajectory(base(tmp_path / "whole", COSINE))
    made = base(tmp_path / "cut", COSINE)
    with monkeypatch.context() as patch:
        cut(patch, 3)
        with pytest.raises(PowerCut):
            trajectory(made)
    epochs_run: list[int] = []
    start = SnapshotPool.on_train_epoch_start

    def spy(self: SnapshotPool, trainer: L.Trainer, module: Any) -> None:
        epochs_run.append(module.epochs_done)
        start(self, trainer, module)

    monkeypatch.setattr(SnapshotPool, "on_train_epoch_start", spy)
    found = trajectory(made)
    assert epochs_run == again
    assert weights(found) == weights(expected)
    assert [member.epoch for member in found] == [1, 3, 4]
    for one, other in zip(found, expected, strict=True):
        assert one.top1_holdout == other.top1_holdout
    assert trajectory(made) == found
    assert epochs_run == again


def test_a_run_that_was_cut_off_between_training_and_its_end_trains_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: tuple[BaseTraining, list[Member]]
) -> None:
    monkeypatch.setattr(stage, "RESUME_SECONDS", 0.0)

    def cut(*arguments: Any) -> None:
        raise PowerCut

    made = base(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(ArtifactStore, "_finish", cut)
        with pytest.raises(PowerCut):
            trajectory(made)
    monkeypatch.setattr(TeacherTraining, "training_step", None)
    found = trajectory(made)
    assert weights(found) == weights(whole[1])
    assert [(one.epoch, one.top1_holdout) for one in found] == [(one.epoch, one.top1_holdout) for one in whole[1]]


@pytest.mark.parametrize("cut", [cut_in_epoch, cut_after_snapshot])
def test_the_seconds_of_all_runs_are_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: Any) -> None:
    """By a clock that goes on by one second whenever it is looked at: at the start and at the end of an epoch."""
    monkeypatch.setattr(stage, "RESUME_SECONDS", 0.0)
    monkeypatch.setattr("teddy.pool.teacher.time", SimpleNamespace(monotonic=itertools.count().__next__))
    made = base(tmp_path, COSINE)
    with monkeypatch.context() as patch:
        cut(patch, 3)
        with pytest.raises(PowerCut):
            trajectory(made)
    assert [(member.epoch, member.seconds) for member in trajectory(made)] == [(1, 1.0), (3, 3.0), (4, 4.0)]


def test_dropout_goes_on_bit_for_bit_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MobileNetV2 draws random numbers of its own in training."""
    monkeypatch.setattr(stage, "RESUME_SECONDS", 0.0)
    few = dataset(blobs(30, seed=1))
    settings: dict[str, Any] = dict(network="mobilenet_v2", dataset=few, recipe=replace(CONSTANT, epochs=2))
    torch.manual_seed(1)
    expected = trajectory(base(tmp_path / "whole", **settings))
    torch.manual_seed(2)
    with monkeypatch.context() as patch:
        cut_after_snapshot(patch, 2)
        with pytest.raises(PowerCut):
            trajectory(base(tmp_path / "cut", **settings))
    assert weights(trajectory(base(tmp_path / "cut", **settings))) == weights(expected)


def test_every_selection_shares_one_run(tmp_path: Path) -> None:
    made = base(tmp_path, COSINE)
    prior = PriorPool(first=1, last=4, every=2).make(made)
    assert [member.epoch for member in prior.members] == [1, 3, 4]
    converged = PriorPool(first=4, last=4, every=1).make(made)
    assert converged.members == prior.members[-1:]
    two = PriorPool(first=1, last=4, every=2, size=2).make(made)
    assert [member.epoch for member in two.members] == [1, 4]
    assert len({pool.fingerprint for pool in (prior, converged, two)}) == 3
    assert PriorPool(first=1, last=4, every=1, size=3).make(made).fingerprint == prior.fingerprint
    assert len(made.store.made) == 1
    with pytest.raises(UserError, match="pool epochs 2 are not among the saved ones"):
        PriorPool(first=2, last=4, every=2).make(made)


def test_the_trajectory_is_named_by_what_it_depends_on(tmp_path: Path) -> None:
    def name(**changes: Any) -> Path:
        made = base(tmp_path, **changes)
        return made.store.folder("trajectory", made.content())

    changes: list[dict[str, Any]] = [
        dict(network="convnet2_w4"),
        dict(seed=4),
        dict(holdout=0.3),
        dict(save_every=1),
        dict(augment=Augmentation()),
        dict(recipe=replace(CONSTANT, lr=0.06)),
        dict(device_config=DeviceConfig("cpu", "bf16-mixed")),
    ]
    assert len({name(), *(name(**change) for change in changes)}) == 1 + len(changes)
    assert name(device_config=DeviceConfig("cuda", "32-true", devices=2, workers=8)) == name()


class Memory(Logger):
    """Keeps the rows that are logged."""

    name, version = "memory", 0

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, metrics))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...

    def column(self, name: str) -> list[tuple[int | None, float]]:
        return [(step, row[name]) for step, row in self.rows if name in row]


def test_the_curves_are_loss_and_accuracy_over_all_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of every 50th step, the held-out accuracy of every epoch."""
    step = TeacherTraining.training_step
    losses: list[float] = []

    def spy(self: TeacherTraining, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = step(self, batch, batch_idx)
        losses.append(loss.item())
        return loss

    monkeypatch.setattr(TeacherTraining, "training_step", spy)
    monkeypatch.setattr(stage, "RESUME_SECONDS", 0.0)
    memory = Memory()
    recipe = replace(CONSTANT, epochs=23, batch_size=15)  # five batches each, the last of them 12 images
    made = base(tmp_path, recipe, save_every=10, log=RunLog(tmp_path / "log", [memory]))
    with monkeypatch.context() as patch:
        cut_in_epoch(patch, 13)
        with pytest.raises(PowerCut):
            trajectory(made)
    losses[:] = losses[:60]  # those that are kept
    members = trajectory(made)
    assert memory.column(metrics.POOL_LOSS) == [(count - 1, pytest.approx(losses[count - 1])) for count in (50, 110)]
    held = memory.column("pool/val/top1")
    assert [step for step, _ in held] == [5 * epoch - 1 for epoch in range(1, 24)]
    rows = [row for _, row in memory.rows if "pool/val/top1" in row]
    assert [row[metrics.POOL_EPOCH] for row in rows] == list(range(1, 24))
    for member in members:
        assert held[int(member.epoch) - 1][1] == pytest.approx(member.top1_holdout, abs=1e-3)


@pytest.mark.parametrize(
    "recipe", [replace(COSINE, epochs=6), replace(CONSTANT, epochs=6, schedule="step", step_size=2)]
)
def test_lightning_sets_the_rate_of_each_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: Recipe) -> None:
    """Also when the run goes on after a kill, without any state of the scheduler."""
    monkeypatch.setattr(stage, "RESUME_SECONDS", 0.0)
    step = TeacherTraining.training_step
    rates: dict[int, set[float]] = {}

    def spy(self: TeacherTraining, batch: Any, batch_idx: int) -> torch.Tensor:
        rates.setdefault(self.epochs_done - 1, set()).add(self.trainer.optimizers[0].param_groups[0]["lr"])
        return step(self, batch, batch_idx)

    monkeypatch.setattr(TeacherTraining, "training_step", spy)
    with monkeypatch.context() as patch:
        cut_in_epoch(patch, 4)
        with pytest.raises(PowerCut):
            trajectory(base(tmp_path, recipe))
    trajectory(base(tmp_path, recipe))
    assert rates == {epoch: {recipe.lr * recipe.factor(epoch)} for epoch in range(6)}


def test_divergence_ends_in_a_sentence_and_leaves_no_result(tmp_path: Path) -> None:
    made = base(tmp_path, replace(CONSTANT, lr=1e9))
    for _ in range(2):  # also when it is run again
        with pytest.raises(
            Diverged, match=r"diverged in epoch 1 \(iteration 3, features.*more\); lower lr=1000000000\.0 of pool"
        ):
            trajectory(made)
    assert not list(made.store.root.rglob("manifest.json"))
    assert not list(made.store.root.rglob("epoch-*"))
