"""A student from folder to accuracy: what is evaluated is what is saved, and the test set is used once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from teddy.artifacts.store import Artifact, ArtifactStore
from teddy.config.errors import StageFailed
from teddy.data.dataset import RealDataset
from teddy.data.distilled import export_images
from teddy.data.images import TensorImages
from teddy.data.sources.base import Loaded
from teddy.evaluation import stage
from teddy.evaluation.protocol import Protocol
from teddy.evaluation.split import open_split
from teddy.evaluation.stage import EpochEnd, Student, evaluate
from teddy.evaluation.student import StudentTraining
from teddy.labels.sources import HardLabels
from teddy.labels.stage import Labels
from teddy.labels.views import ViewMaker, ViewRecipe
from teddy.models.networks import build_network
from teddy.runtime.device import DeviceConfig
from teddy.runtime.loggers import RunLog
from teddy.runtime.progress import StageProgress
from teddy.runtime.seeding import permutation
from teddy.synthesis.stage import ImageFolderArtifact

PROTOCOL = Protocol("hard", "views", "sgd", 0.05, 0.9, 0.0, batch_size=8, epochs=4, schedule="cosine", eta=1.0)
RECIPE = ViewRecipe(min_scale=0.7, flip=0.0, mix="none")
NETWORK = "convnet2_w4"


class Watched(TensorImages):
    """Test images that note each access."""

    def __init__(self, images: TensorImages, events: list[Any]) -> None:
        super().__init__(images.images, images.labels)
        self.events = events

    def take(self, indices: Any) -> torch.Tensor:
        self.events.append(torch.as_tensor(indices).tolist())
        return super().take(indices)


@dataclass
class InMemory:
    test: TensorImages

    def fingerprint(self) -> str:
        return "blobs"

    def load(self) -> Loaded:
        return Loaded(self.test, self.test, ("a", "b", "c"), ("0", "1", "2"), channels=1, size=8)


Blobs = Callable[..., TensorImages]


@pytest.fixture
def test_images(blobs: Blobs) -> TensorImages:
    return blobs(45, seed=2, noise=60.0)


@pytest.fixture
def data(test_images: TensorImages) -> RealDataset:
    return RealDataset("blobs", InMemory(test_images), mean=[0.5], std=[0.25])


@pytest.fixture
def images(tmp_path: Path, blobs: Blobs, data: RealDataset) -> ImageFolderArtifact:
    some = blobs(21, seed=1, noise=20.0)
    export_images(tmp_path / "images", some.images, some.labels, data.spec)
    return ImageFolderArtifact(Artifact(tmp_path, "images", "fedcba", {"seconds": 1.0}), data.spec)


def student(images: ImageFolderArtifact, **changes: Any) -> Student:
    labels = Labels("hard", {"kind": "hard"}, lambda: HardLabels(images.images.labels, 3))
    settings = dict(protocol_name="p", protocol=PROTOCOL, labels=labels, view=RECIPE, view_seed=9, seed=4)
    return Student(**{"network": NETWORK, **settings, **changes})


def run_all(
    images: ImageFolderArtifact, students: Sequence[Student], data: RealDataset, store: str = "store"
) -> list[Artifact]:
    folder = images.folder.parent
    with StageProgress("evaluation", sum(one.protocol.epochs for one in students), "epochs") as progress:
        made = [
            evaluate(
                ArtifactStore(folder / store),
                open_split("test", data, 0.1, 0),
                images,
                one,
                DeviceConfig("cpu", "32-true"),
                RunLog(folder / "log"),
                progress,
                "blobs",
            )
            for one in students
        ]
    assert progress.done == progress.total
    return made


def run(images: ImageFolderArtifact, data: RealDataset, store: str = "store", **changes: Any) -> Artifact:
    return run_all(images, [student(images, **changes)], data, store)[0]


def slow_top1(folder: Path, test: TensorImages, data: RealDataset) -> float:
    """The same student, from the PNG files as Pillow reads them, without any of the stage's parts."""
    paths = sorted(folder.glob("images/*/*.png"))
    pixels = torch.from_numpy(np.stack([np.array(Image.open(path)) for path in paths]))[:, None]
    labels = torch.tensor([int(path.parent.name) for path in paths])
    network = build_network(NETWORK, 3, 1, 8, seed=4)
    optimizer = torch.optim.SGD(network.parameters(), 1.0, momentum=0.9)
    views = ViewMaker(pixels, data.spec, RECIPE, 9)
    for epoch in range(4):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * epoch / 4)) / 2
        for indices in torch.from_numpy(permutation(len(labels), 4, "student order", epoch)).split(8):
            inputs = views(epoch, indices).images.contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs), labels[indices]).backward()
            optimizer.step()
    network.eval()
    inputs = (test.images.float() / 255 - 0.5) / 0.25
    return 100 * sum(int(network(x[None]).argmax()) == int(y) for x, y in zip(inputs, test.labels, strict=True)) / 45


def test_accuracy_is_that_of_a_student_trained_on_the_png_files(
    tmp_path: Path, images: ImageFolderArtifact, data: RealDataset, test_images: TensorImages
) -> None:
    found = run(images, data).facts["top1"]
    assert found == pytest.approx(slow_top1(tmp_path, test_images, data), abs=1e-4)
    assert 50 < found < 100  # it learned, and not everything was easy


def test_other_pixels_in_the_files_give_another_student(
    tmp_path: Path, images: ImageFolderArtifact, data: RealDataset
) -> None:
    first = run(images, data).facts["top1"]
    for path in (tmp_path / "images").glob("*/*.png"):
        Image.fromarray(np.full((8, 8), 90, np.uint8)).save(path)
    grey = ImageFolderArtifact(Artifact(tmp_path, "images", "fedcba", {}), data.spec)
    assert run(grey, data, store="other").facts["top1"] < first


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """(seed, epoch) of each epoch of training, in order."""
    events: list[Any] = []

    def on_train_epoch_start(self: StudentTraining) -> None:
        events.append((self.seed, self.first_epoch + self.current_epoch))

    monkeypatch.setattr(StudentTraining, "on_train_epoch_start", on_train_epoch_start)
    return events


@pytest.fixture
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resume point after every epoch."""
    monkeypatch.setattr(stage, "RESUME_SECONDS", 0.0)


def test_students_train_one_after_another_and_the_test_set_is_used_once_for_each(
    images: ImageFolderArtifact, test_images: TensorImages, epochs: list[Any]
) -> None:
    data = RealDataset("blobs", InMemory(Watched(test_images, epochs)), mean=[0.5], std=[0.25])
    students = [student(images, seed=seed) for seed in (4, 5)]
    made = run_all(images, students, data)
    expected = [[*((seed, epoch) for epoch in range(4)), list(range(45))] for seed in (4, 5)]
    assert epochs == [*expected[0], *expected[1]]
    found = run_all(images, students, data)
    assert [one.facts for one in found] == [one.facts for one in made]
    assert len(epochs) == 10, "finished students are found"


def test_facts_of_a_row(images: ImageFolderArtifact, data: RealDataset) -> None:
    started = time.monotonic()
    made = run(images, data)
    assert made.facts.keys() == {"top1", "macro_f1", "loss", "seconds", "peak_memory_mb"}
    assert 0 < made.facts["seconds"] <= time.monotonic() - started + 0.005  # rounded to hundredths
    assert 50 < made.facts["peak_memory_mb"] < 1e5
    assert [path.name for path in made.folder.iterdir() if not path.name.startswith(".")] == ["manifest.json"]
    assert not (made.folder / ".resume.safetensors").exists()


def test_the_divergence_is_measured_after_the_test(images: ImageFolderArtifact, data: RealDataset) -> None:
    class Measure:
        identity: ClassVar[dict[str, Any]] = {"teachers": ["t"]}

        def __call__(self, network: nn.Module) -> dict[str, float]:
            return {"epoch 1": round(float(sum(value.abs().sum() for value in network.state_dict().values())), 3)}

    split, config = open_split("test", data, 0.1, 0), DeviceConfig("cpu", "32-true")
    folder = images.folder.parent
    arguments = ArtifactStore(folder / "store"), split, images, student(images), config, RunLog(folder / "log")
    progress: Any = StageProgress("evaluation", 4, "epochs")
    with progress:
        made = evaluate(*arguments, progress, "blobs", divergence=Measure())  # type: ignore[arg-type]
    assert made.facts["divergence"]["epoch 1"] > 0
    assert made.fingerprint != run(images, data).fingerprint


class Cut(Exception):
    """Stands for a kill."""


def test_a_run_killed_while_testing_tests_again_without_training(
    images: ImageFolderArtifact, data: RealDataset, monkeypatch: pytest.MonkeyPatch, every_epoch: None
) -> None:
    expected = run(images, data).facts["top1"]

    def cut(self: StudentTraining) -> None:
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(StudentTraining, "on_test_start", cut)
        with pytest.raises(Cut):
            run(images, data, store="other")
    monkeypatch.delattr(StudentTraining, "training_step")
    assert run(images, data, store="other").facts["top1"] == expected


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_student_killed_in_an_epoch_resumes_to_the_same_bytes(
    images: ImageFolderArtifact,
    data: RealDataset,
    monkeypatch: pytest.MonkeyPatch,
    every_epoch: None,
    epochs: list[Any],
    optimizer: str,
) -> None:
    weights: list[dict[str, torch.Tensor]] = []

    def on_train_end(self: EpochEnd, trainer: L.Trainer, module: StudentTraining) -> None:
        weights.append({name: value.clone() for name, value in module.network.state_dict().items()})

    monkeypatch.setattr(EpochEnd, "on_train_end", on_train_end)
    protocol = replace(PROTOCOL, optimizer=optimizer, lr=0.02)
    whole = run(images, data, store="whole", protocol=protocol)
    step = StudentTraining.training_step

    def cut(self: StudentTraining, batch: Any, batch_idx: int) -> torch.Tensor:
        if (self.current_epoch, batch_idx) == (2, 1):
            raise Cut
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(StudentTraining, "training_step", cut)
        with pytest.raises(Cut):
            run(images, data, protocol=protocol)
    torch.manual_seed(99)
    epochs.clear()
    resumed = run(images, data, protocol=protocol)
    assert epochs == [(4, 2), (4, 3)]
    assert resumed.facts["top1"] == whole.facts["top1"]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_seconds_count_the_killed_run(
    images: ImageFolderArtifact, data: RealDataset, monkeypatch: pytest.MonkeyPatch, every_epoch: None
) -> None:
    def slow_then_cut(self: StudentTraining) -> None:
        time.sleep(0.2)
        if self.current_epoch == 2:
            raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(StudentTraining, "on_train_epoch_start", slow_then_cut)
        with pytest.raises(Cut):
            run(images, data)
    started = time.monotonic()
    seconds = run(images, data).facts["seconds"]
    assert 0.4 <= seconds < 0.4 + 10
    assert seconds > time.monotonic() - started - 0.2


def test_a_diverged_student_never_becomes_a_result(
    images: ImageFolderArtifact, test_images: TensorImages, every_epoch: None
) -> None:
    events: list[Any] = []
    data = RealDataset("blobs", InMemory(Watched(test_images, events)), mean=[0.5], std=[0.25])
    good = [student(images, seed=seed) for seed in (0, 1)]
    bad = student(images, network="convnet2_w4_none", protocol=replace(PROTOCOL, lr=1e20))
    message = r"student convnet2_w4_none of blobs \(protocol p, seed 4\) diverged \(epoch 1, iteration 1, "
    message += r"features\.0\.weight and 5 more, loss nan\); lower the learning rate"
    for _ in range(2):  # also when it is run again
        with pytest.raises(StageFailed, match=message):
            run_all(images, [*good, bad], data)
    assert len(events) == 2
    assert len(list(images.folder.parent.rglob("manifest.json"))) == 2, "those before it are kept"


def test_the_display_counts_every_students_epochs(
    images: ImageFolderArtifact, data: RealDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    students = [student(images, seed=seed) for seed in (0, 1)]
    run_all(images, students[:1], data)
    capsys.readouterr()
    run_all(images, students, data)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("evaluation: 8/8 epochs (100 %)")
    assert "student convnet2_w4 of blobs (protocol p, seed 1), loss " in last


def test_a_students_fingerprint_covers_what_it_depends_on(images: ImageFolderArtifact, data: RealDataset) -> None:
    changes: list[dict[str, Any]] = [
        {},
        dict(network="convnet2_w5"),
        dict(seed=5),
        dict(view_seed=10),
        dict(view=replace(RECIPE, flip=0.5)),
        dict(protocol=replace(PROTOCOL, epochs=5)),
        dict(labels=Labels("hard", {"kind": "other"}, student(images).labels.source)),
    ]
    assert len({run(images, data, **change).fingerprint for change in changes}) == len(changes)
    assert run(images, data, protocol_name="other").fingerprint == run(images, data).fingerprint


def test_dsa_trains_too(images: ImageFolderArtifact, data: RealDataset) -> None:
    protocol = replace(PROTOCOL, augment="dsa", schedule="step", epochs=20)
    assert run(images, data, protocol=protocol).facts["top1"] > 50
