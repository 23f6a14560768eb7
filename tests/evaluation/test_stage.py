"""A student from folder to accuracy: what is evaluated is what is saved, and the test set is used once."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
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


def run_all(
    folder: Path,
    images: ImageFolderArtifact,
    students: Sequence[Student],
    data: RealDataset | None = None,
    store: str = "store",
    together: int = 8,
    precision: str = "float32",
) -> list[Artifact]:
    with StageProgress("evaluation", sum(one.protocol.epochs for one in students), "epochs") as progress:
        found = evaluate(
            ArtifactStore(folder / store),
            open_exam("test", data or dataset(), 0.1, 0),
            images,
            students,
            Compute("cpu", precision),
            RunLog(folder / "log"),
            progress,
            "blobs",
            together,
        )
        made = list(found)
    assert progress.done == progress.total
    return made


def run(
    folder: Path, images: ImageFolderArtifact, data: RealDataset | None = None, store: str = "store", **changes: Any
) -> Artifact:
    return run_all(folder, images, [student(images, **changes)], data, store)[0]


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


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Who trains which epoch, in the order in which it happens."""
    events: list[Any] = []
    train_epoch = StudentTraining.train_epoch

    def spy(self: StudentTraining, optimizer: torch.optim.Optimizer) -> float:
        events.append((self.seed, self.done))
        return train_epoch(self, optimizer)

    monkeypatch.setattr(StudentTraining, "train_epoch", spy)
    return events


def test_the_test_set_is_used_once_after_the_last_epoch(tmp_path: Path, events: list[Any]) -> None:
    images, data = distilled(tmp_path), dataset(Watched(blobs(45, seed=2), events))
    made = run(tmp_path, images, data)
    assert events[:4] == [(4, 0), (4, 1), (4, 2), (4, 3)]
    assert sorted(sum(events[4:], [])) == list(range(45))  # noqa: RUF017
    found = run(tmp_path, images, data)
    assert found.facts == made.facts
    assert len(events) == 5  # nor again when it is asked for again


def test_facts_of_a_row(tmp_path: Path) -> None:
    made = run(tmp_path, distilled(tmp_path))
    assert made.facts.keys() == {"top1", "seconds", "peak_memory_mb"}
    assert made.facts["seconds"] > 0
    assert 50 < made.facts["peak_memory_mb"] < 1e5
    assert [path.name for path in made.folder.iterdir() if not path.name.startswith(".")] == ["manifest.json"]
    assert not (made.folder / ".resume.safetensors").exists()


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
    monkeypatch.delattr(StudentTraining, "train_epoch")
    assert run(tmp_path, images, store="other").facts["top1"] == expected


def test_a_diverged_student_never_becomes_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "RESUME_SECONDS", 0.0)
    images, events = distilled(tmp_path), []
    data = dataset(Watched(blobs(45, seed=2), events))
    for _ in range(2):  # also when it is run again
        with pytest.raises(StageFailed, match=r"student convnet2_w4_none of blobs \(seed 4\) diverged"):
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


# --- side by side ---


def company(images: ImageFolderArtifact, **changes: Any) -> list[Student]:
    """Two architectures, three seeds."""
    return [
        student(images, network=network, seed=seed, **changes)
        for network in ("convnet2_w4", "convnet1_w3")
        for seed in (0, 1, 2)
    ]


def results(artifacts: Sequence[Artifact]) -> list[tuple[str, float]]:
    return [(one.fingerprint, one.facts["top1"]) for one in artifacts]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_together_or_one_after_another_is_the_same(tmp_path: Path, events: list[Any], precision: str) -> None:
    images = distilled(tmp_path)
    students = company(images)
    alone = run_all(tmp_path, images, students, store="alone", together=1, precision=precision)
    assert [done for _, done in events] == [0, 1, 2, 3] * 6
    del events[:]
    together = run_all(tmp_path, images, students, store="together", together=4, precision=precision)
    assert [done for _, done in events] == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [0, 0, 1, 1, 2, 2, 3, 3]
    assert results(together) == results(alone)
    assert len({one.facts["top1"] for one in alone}) > 1


def test_students_that_are_there_are_not_trained_again(tmp_path: Path, events: list[Any]) -> None:
    images = distilled(tmp_path)
    students = company(images)
    some = run_all(tmp_path, images, [students[4], students[1]])
    del events[:]
    made = run_all(tmp_path, images, students)
    assert sorted(seed for seed, done in events if done == 0) == [0, 0, 2, 2], "four are left, and train together"
    assert [done for _, done in events] == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert [made[4].facts, made[1].facts] == [one.facts for one in some]
    assert results(made) == results(run_all(tmp_path, images, students, store="other", together=1))


def test_only_students_of_one_protocol_share_a_fit_and_the_order_stays(tmp_path: Path, events: list[Any]) -> None:
    images = distilled(tmp_path)
    short = [student(images, seed=seed, protocol=replace(PROTOCOL, epochs=2), protocol_name="q") for seed in (0, 1)]
    long = [student(images, seed=seed) for seed in (0, 1)]
    mixed = [short[0], long[0], short[1], long[1], short[0]]  # one of them twice
    made = run_all(tmp_path, images, mixed)
    assert events == [(0, 0), (1, 0), (0, 1), (1, 1)] + [(seed, epoch) for epoch in range(4) for seed in (0, 1)]
    expected = [run_all(tmp_path, images, [one], store="other")[0] for one in mixed]
    assert results(made) == results(expected)


def test_each_is_tested_once_and_saved_before_the_next_is_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "RESUME_SECONDS", 0.0)
    images = distilled(tmp_path)
    students, seen = company(images), []
    data = dataset(Watched(blobs(45, seed=2), seen))
    whole = run_all(tmp_path, images, students, data, store="whole")
    assert len(seen) == 6
    measure, calls = stage.top1, []

    def fails_at_the_third(*args: Any) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise ConnectionError("the power is cut")
        return measure(*args)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "top1", fails_at_the_third)
        with pytest.raises(ConnectionError):
            run_all(tmp_path, images, students, data)
    assert len(list((tmp_path / "store").rglob("manifest.json"))) == 2
    monkeypatch.delattr(StudentTraining, "train_epoch")
    del seen[:]
    assert results(run_all(tmp_path, images, students, data)) == results(whole)
    assert len(seen) == 4


def test_a_company_killed_in_the_midst_goes_on_to_the_same_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "RESUME_SECONDS", 0.0)
    images = distilled(tmp_path)
    students = company(images)
    whole = run_all(tmp_path, images, students, store="whole")
    trained: list[tuple[int, int]] = []
    train_epoch = StudentTraining.train_epoch

    def stop(self: StudentTraining, optimizer: torch.optim.Optimizer) -> float:
        trained.append((self.seed, self.done))
        if len(trained) == 15:  # in the third epoch
            raise ConnectionError("the power is cut")
        return train_epoch(self, optimizer)

    monkeypatch.setattr(StudentTraining, "train_epoch", stop)
    with pytest.raises(ConnectionError):
        run_all(tmp_path, images, students)
    # One of them is wanted by itself in between, and one comes back as if it had never begun.
    run_all(tmp_path, images, students[5:])
    chosen = list((tmp_path / "store" / "students").glob("*/.resume.safetensors"))
    assert len(chosen) == 5
    chosen[0].unlink()
    del trained[:]
    assert results(run_all(tmp_path, images, students)) == results(whole)
    assert [done for _, done in trained] == [0, 1, *[2] * 5, *[3] * 5]


def test_a_diverged_student_stops_its_company_and_loses_nothing_of_those_finished(tmp_path: Path) -> None:
    images = distilled(tmp_path)
    bad = student(images, seed=9, network="convnet2_w4_none", protocol=replace(PROTOCOL, lr=1e20))
    good = [student(images, seed=seed) for seed in (0, 1)]
    with pytest.raises(StageFailed, match=r"student convnet2_w4_none of blobs \(seed 9\) diverged"):
        run_all(tmp_path, images, [*good, bad])
    assert len(list((tmp_path / "store").rglob("manifest.json"))) == 2


def test_seconds_of_a_company_are_the_time_it_took(tmp_path: Path) -> None:
    images = distilled(tmp_path)
    start = time.monotonic()
    made = run_all(tmp_path, images, company(images))
    took, seconds = time.monotonic() - start, [one.facts["seconds"] for one in made]
    assert min(seconds) > 0
    assert sum(seconds) <= took + 6 * 0.005  # rounded to hundredths


def test_dsa_trains_too(tmp_path: Path) -> None:
    made = run(tmp_path, distilled(tmp_path), protocol=replace(PROTOCOL, augment="dsa", schedule="step", epochs=20))
    assert made.facts["top1"] > 50
