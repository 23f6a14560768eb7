"""A student from folder to accuracy: what is evaluated is what is saved, and the test set is used once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from teddy.artifacts.store import Artifact, ArtifactStore
from teddy.config.errors import StageFailed
from teddy.data.dataset import RealDataset, open_dataset
from teddy.data.distilled import export_images
from teddy.data.images import TensorImages
from teddy.data.sources.base import Loaded
from teddy.evaluation import stage
from teddy.evaluation.exam import open_exam
from teddy.evaluation.protocol import Protocol
from teddy.evaluation.stage import Student, evaluate
from teddy.evaluation.student import StudentTraining
from teddy.labels.sources import HardLabels
from teddy.labels.stage import Labels
from teddy.labels.views import ViewMaker, ViewRecipe
from teddy.models.networks import build_network
from teddy.runtime.loggers import RunLog
from teddy.runtime.precision import Compute
from teddy.runtime.progress import StageProgress
from teddy.runtime.seeding import permutation
from teddy.synthesis.stage import ImageFolderArtifact

PROTOCOL = Protocol(
    labels="hard",
    augment="views",
    optimizer="sgd",
    lr=0.05,
    momentum=0.9,
    weight_decay=0.0,
    batch_size=8,
    epochs=4,
    schedule="cosine",
    eta=1.0,
)
RECIPE = ViewRecipe(min_scale=0.7, flip=0.0, mix="none")
NETWORK = "convnet2_w4"


def blobs(n: int, seed: int, spread: float = 60.0) -> TensorImages:
    """Three classes: a bright square in one of three places, under noise."""
    labels = torch.arange(n) % 3
    images = 110 + spread * torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    for index, label in enumerate(labels.tolist()):
        images[index, 0, 2:6, 2 * label : 2 * label + 3] += 60
    return TensorImages(images.clamp(0, 255).byte(), labels)


class Watched(TensorImages):
    """Test images that note who looks at them."""

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
        return Loaded(blobs(6, seed=0), self.test, ("a", "b", "c"), ("0", "1", "2"), channels=1, size=8)


def dataset(test: TensorImages | None = None) -> RealDataset:
    return open_dataset("blobs", InMemory(test or blobs(45, seed=2)), mean=[0.5], std=[0.25])


def distilled(folder: Path, images: TensorImages | None = None) -> ImageFolderArtifact:
    images, spec = images or blobs(21, seed=1, spread=20.0), dataset().spec
    export_images(folder / "images", images.images, images.labels, spec)
    return ImageFolderArtifact(Artifact(folder, "images", "fedcba", {"seconds": 1.0}), spec)


def student(images: ImageFolderArtifact, **changes: Any) -> Student:
    labels = Labels("hard", {"kind": "hard"}, lambda: HardLabels(images.images.labels, 3))
    settings = dict(protocol_name="p", protocol=PROTOCOL, labels=labels, view=RECIPE, view_seed=9, seed=4)
    return Student(**{"network": NETWORK, **settings, **changes})


def run(
    folder: Path, images: ImageFolderArtifact, data: RealDataset | None = None, store: str = "store", **changes: Any
) -> Artifact:
    one = student(images, **changes)
    with StageProgress("evaluation", one.protocol.epochs, "epochs") as progress:
        return evaluate(
            ArtifactStore(folder / store),
            open_exam("test", data or dataset(), 0.1, 0),
            images,
            one,
            Compute("cpu", "float32"),
            RunLog(folder / "log"),
            progress,
            "p convnet seed4",
        )


def slow_top1(folder: Path, test: TensorImages) -> float:
    """The same student, from the PNG files as Pillow reads them, without any of the stage's parts."""
    paths = sorted(folder.glob("images/*/*.png"))
    pixels = torch.from_numpy(np.stack([np.array(Image.open(path)) for path in paths]))[:, None]
    labels = torch.tensor([int(path.parent.name) for path in paths])
    network = build_network(NETWORK, 3, 1, 8, seed=4)
    optimizer = torch.optim.SGD(network.parameters(), 1.0, momentum=0.9)
    views = ViewMaker(pixels, dataset().spec, RECIPE, 9)
    for epoch in range(4):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * epoch / 4)) / 2
        for indices in torch.from_numpy(permutation(len(labels), 4, "student order", epoch)).split(8):
            images = views(epoch, indices).images.contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels[indices]).backward()
            optimizer.step()
    network.eval()
    inputs = (test.images.float() / 255 - 0.5) / 0.25
    return 100 * sum(int(network(x[None]).argmax()) == int(y) for x, y in zip(inputs, test.labels, strict=True)) / 45


def test_accuracy_is_that_of_a_student_trained_on_the_png_files(tmp_path: Path) -> None:
    images = distilled(tmp_path)
    found = run(tmp_path, images).facts["top1"]
    expected = slow_top1(tmp_path, blobs(45, seed=2))
    assert found == pytest.approx(expected, abs=1e-4)
    assert 50 < found < 100  # it learned, and there was something to get wrong


def test_other_pixels_in_the_files_give_another_student(tmp_path: Path) -> None:
    first = run(tmp_path, distilled(tmp_path)).facts["top1"]
    for path in (tmp_path / "images").glob("*/*.png"):
        Image.fromarray(np.full((8, 8), 90, np.uint8)).save(path)
    images = ImageFolderArtifact(Artifact(tmp_path, "images", "fedcba", {}), dataset().spec)
    assert run(tmp_path, images, store="other").facts["top1"] < first


def test_the_test_set_is_used_once_after_the_last_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Any] = []
    step = StudentTraining.training_step

    def spy(self: StudentTraining, batch: int, batch_idx: int) -> torch.Tensor:
        events.append("step")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(StudentTraining, "training_step", spy)
    images, data = distilled(tmp_path), dataset(Watched(blobs(45, seed=2), events))
    made = run(tmp_path, images, data)
    assert events[:12] == ["step"] * 12  # 4 epochs of 8 + 8 + 5 images
    assert sorted(sum(events[12:], [])) == list(range(45))  # noqa: RUF017
    found = run(tmp_path, images, data)
    assert found.facts == made.facts
    assert len(events) == 13  # nor again when it is asked for again


def test_facts_of_a_row(tmp_path: Path) -> None:
    made = run(tmp_path, distilled(tmp_path))
    assert made.facts.keys() == {"top1", "seconds", "peak_memory_mb"}
    assert made.facts["seconds"] > 0
    assert 50 < made.facts["peak_memory_mb"] < 1e5
    assert [path.name for path in made.folder.iterdir() if not path.name.startswith(".")] == ["manifest.json"]
    assert not (made.folder / ".resume.safetensors").exists()


def test_a_student_that_was_cut_off_goes_on_to_the_same_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "RESUME_SECONDS", 0.0)
    images = distilled(tmp_path)
    expected = run(tmp_path, images).facts["top1"]
    epochs: list[int] = []
    step = StudentTraining.training_step

    def stop(self: StudentTraining, batch: int, batch_idx: int) -> torch.Tensor:
        epochs.append(self.first_epoch + self.current_epoch)
        if len(epochs) == 8:  # the second batch of the third epoch
            raise ConnectionError("the power is cut")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(StudentTraining, "training_step", stop)
    with pytest.raises(ConnectionError):
        run(tmp_path, images, store="other")
    assert run(tmp_path, images, store="other").facts["top1"] == expected
    assert epochs == [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3]


def test_a_run_killed_while_testing_tests_again_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "RESUME_SECONDS", 0.0)
    images = distilled(tmp_path)
    expected = run(tmp_path, images).facts["top1"]
    with monkeypatch.context() as patch:
        patch.setattr(stage, "top1", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tmp_path, images, store="other")
    monkeypatch.delattr(StudentTraining, "training_step")
    assert run(tmp_path, images, store="other").facts["top1"] == expected


def test_a_diverged_student_never_becomes_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "RESUME_SECONDS", 0.0)
    images, events = distilled(tmp_path), []
    data = dataset(Watched(blobs(45, seed=2), events))
    for _ in range(2):  # also when it is run again
        with pytest.raises(StageFailed, match="a student diverged"):
            run(tmp_path, images, data, network="convnet2_w4_none", protocol=replace(PROTOCOL, lr=1e20))
    assert events == []
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_students_name_covers_what_it_depends_on(tmp_path: Path) -> None:
    images = distilled(tmp_path)
    changes: list[dict[str, Any]] = [
        {},
        dict(network="convnet2_w5"),
        dict(seed=5),
        dict(view_seed=10),
        dict(view=replace(RECIPE, flip=0.5)),
        dict(protocol=replace(PROTOCOL, epochs=5)),
        dict(labels=Labels("hard", {"kind": "other"}, student(images).labels.source)),
    ]
    assert len({run(tmp_path, images, **change).fingerprint for change in changes}) == len(changes)
    assert run(tmp_path, images, protocol_name="other").fingerprint == run(tmp_path, images).fingerprint


def test_dsa_trains_too(tmp_path: Path) -> None:
    made = run(tmp_path, distilled(tmp_path), protocol=replace(PROTOCOL, augment="dsa", schedule="step", epochs=20))
    assert made.facts["top1"] > 50
