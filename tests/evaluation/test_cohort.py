"""Students side by side: the same bytes as alone, whoever is in the company, and whatever is cut off."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from teddy.config.errors import StageFailed
from teddy.data.spec import DatasetSpec
from teddy.evaluation.clock import SharedClock
from teddy.evaluation.cohort import Cohort, CohortPoints, CohortProgress
from teddy.evaluation.protocol import Protocol
from teddy.evaluation.student import DsaViews, StudentTraining, ViewSource
from teddy.labels.ensemble import PoolLabeller
from teddy.labels.packing import Dense
from teddy.labels.sources import HardLabels, LabelSource, OnlineLabels, StoredLabels
from teddy.labels.views import ViewMaker, ViewRecipe
from teddy.models.networks import build_network
from teddy.runtime.precision import Compute
from teddy.runtime.progress import StageProgress
from teddy.runtime.resume import TrainingPoint
from teddy.runtime.trainer import make_trainer

N, CLASSES, EPOCHS = 21, 3, 3
SPEC = DatasetSpec("toy", CLASSES, 1, 8, (0.5,), (0.25,), ("a", "b", "c"), ("0", "1", "2"))
IMAGES = torch.randint(0, 256, (N, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(N) % CLASSES
SOFT = Protocol("soft", "views", "adamw", 0.01, 0.9, 0.1, 8, EPOCHS, "cosine", 2.0)
HARD = replace(SOFT, labels="hard", optimizer="sgd", lr=0.05)


class Noisy(nn.Module):
    """A network that draws random numbers of its own."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.body = build_network("convnet2_w4", CLASSES, 1, 8, seed=seed)
        self.dropout = nn.Dropout(0.3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(self.dropout(images))


NETWORKS: list[Callable[[], nn.Module]] = [
    lambda: Noisy(0),
    lambda: build_network("resnet18_cifar_w16", CLASSES, 1, 8, seed=0),  # BatchNorm
    lambda: Noisy(1),
    lambda: build_network("convnet2_w4", CLASSES, 1, 8, seed=2),
]
"""The seeds of order and dropout are their places."""


@pytest.fixture(scope="module")
def logits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stored labels of two epochs; a third begins anew."""
    path = tmp_path_factory.mktemp("labels") / "logits.npy"
    np.save(path, np.random.default_rng(0).standard_normal((2, N, CLASSES)).astype(np.float16))
    return path


class Asked(PoolLabeller):
    """Teachers that count the views they are asked about."""

    views = 0

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.views += len(images)
        return super().__call__(images)


def teachers(precision: str = "float32") -> Asked:
    pool = [build_network("convnet2_w4", CLASSES, 1, 8, seed=seed) for seed in (10, 11)]
    return Asked(pool, precision=torch.bfloat16 if precision == "bfloat16" else None)


def make(
    places: Sequence[int], protocol: Protocol, source: LabelSource, precision: str = "float32", name: str = "student"
) -> list[StudentTraining]:
    shared = ViewMaker(IMAGES, SPEC, ViewRecipe(min_scale=0.5), 9)
    autocast = Compute("cpu", precision).autocast
    students = []
    for place in places:
        views: ViewSource = shared if protocol.augment == "views" else DsaViews(IMAGES, SPEC, place)
        options = dict(name=f"{name} {place}", autocast=autocast)
        students.append(StudentTraining(NETWORKS[place](), views, source, protocol, N, place, **options))
    return students


def fit(folder: Path, students: Sequence[StudentTraining], points: Sequence[TrainingPoint] = ()) -> list[dict]:
    """Trains them in one fit and returns their weights."""
    for student, point in zip(students, points, strict=False):
        student.done = point.restore(student.network)[0]
    cohort = Cohort(students, students[0].source, SharedClock([0.0] * len(students), torch.device("cpu")))
    epochs = students[0].protocol.epochs - cohort.first_epoch
    callbacks = [CohortPoints(points, 0.0)] if points else []
    make_trainer(Compute("cpu", "float32"), max_epochs=epochs, folder=folder, callbacks=callbacks).fit(cohort)
    return [student.network.state_dict() for student in students]


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("labels", ["online", "stored", "hard", "dsa"])
def test_together_is_alone(tmp_path: Path, logits: Path, labels: str, precision: str) -> None:
    sources: dict[str, Callable[[], LabelSource]] = {
        "online": lambda: OnlineLabels(teachers(precision), 4.0, batch_size=5),
        "stored": lambda: StoredLabels(logits, N, Dense(CLASSES), 4.0),
        "hard": lambda: HardLabels(LABELS, CLASSES),
        "dsa": lambda: HardLabels(LABELS, CLASSES),
    }
    protocol = {"hard": HARD, "dsa": replace(HARD, augment="dsa")}.get(labels, SOFT)
    together = fit(tmp_path, make(range(4), protocol, sources[labels](), precision))
    backwards = fit(tmp_path, make([3, 2, 1, 0], protocol, sources[labels](), precision))[::-1]
    for place in range(4):
        (alone,) = fit(tmp_path, make([place], protocol, sources[labels](), precision))
        assert same(alone, together[place])
        assert same(alone, backwards[place])
        assert not same(alone, NETWORKS[place]().state_dict())


def test_a_fit_is_the_plain_loop_over_epochs(tmp_path: Path) -> None:
    """Nothing of Lightning's gets in: no Trainer here, and gradients flow in float32 only."""
    for precision in ("float32", "bfloat16"):
        (found,) = fit(tmp_path, make([1], HARD, HardLabels(LABELS, CLASSES), precision))
        (plain,) = make([1], HARD, HardLabels(LABELS, CLASSES), precision)
        optimizer = HARD.make_optimizer(plain.network)
        for _ in range(EPOCHS):
            plain.train_epoch(optimizer)
        assert same(found, plain.network.state_dict())


def test_teachers_are_asked_once_in_an_epoch_for_all(tmp_path: Path) -> None:
    labeller = teachers()
    source = OnlineLabels(labeller, 4.0, batch_size=5)
    fit(tmp_path, make(range(4), SOFT, source))
    assert labeller.views == EPOCHS * N
    assert source._logits.numel() == 0, "nothing is held after the epoch"


def cut(student: StudentTraining, epoch: int) -> None:
    """Ends the student's power in the midst of an epoch."""
    loss, calls = student._loss, itertools.count(1)

    def stop(at: int, batch: int, indices: torch.Tensor) -> torch.Tensor:
        if at == epoch and next(calls) == 2:
            raise ConnectionError("the power is cut")
        return loss(at, batch, indices)

    student._loss = stop  # type: ignore[method-assign]


def points_in(folder: Path) -> list[TrainingPoint]:
    return [TrainingPoint(folder / f"{place}.safetensors") for place in range(4)]


@pytest.mark.parametrize("labels", ["online", "hard"])
def test_a_company_that_was_cut_off_goes_on_bit_for_bit(tmp_path: Path, labels: str) -> None:
    protocol = replace(SOFT if labels == "online" else HARD, epochs=4)

    def students() -> list[StudentTraining]:
        source = OnlineLabels(teachers(), 4.0) if labels == "online" else HardLabels(LABELS, CLASSES)
        return make(range(4), protocol, source)

    expected = fit(tmp_path, students())
    stopped = students()
    cut(stopped[2], 2)
    with pytest.raises(ConnectionError):
        fit(tmp_path, stopped, points_in(tmp_path))
    torch.manual_seed(99)
    found = students()
    assert all(same(*pair) for pair in zip(fit(tmp_path, found, points_in(tmp_path)), expected, strict=True))
    assert [student.done for student in found] == [4] * 4


def test_those_ahead_wait_for_those_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their points are of epochs 2, none, 4 (all that there are) and 1: a killed run may leave any mixture."""
    protocol = replace(SOFT, epochs=4)

    def students(places: Sequence[int] = range(4)) -> list[StudentTraining]:
        return make(places, protocol, OnlineLabels(teachers(), 4.0))

    expected = fit(tmp_path, students())
    for place, epochs in ((0, 2), (2, 4), (3, 1)):
        (one,) = students([place])
        if epochs < 4:
            cut(one, epochs)
            with pytest.raises(ConnectionError):
                fit(tmp_path, [one], [points_in(tmp_path)[place]])
        else:
            fit(tmp_path, [one], [points_in(tmp_path)[place]])
    trained: list[tuple[int, int]] = []
    train_epoch = StudentTraining.train_epoch

    def spy(self: StudentTraining, optimizer: torch.optim.Optimizer) -> float:
        trained.append((self.done, self.seed))
        return train_epoch(self, optimizer)

    monkeypatch.setattr(StudentTraining, "train_epoch", spy)
    found = fit(tmp_path, students(), points_in(tmp_path))
    assert trained == [(0, 1), (1, 1), (1, 3), (2, 0), (2, 1), (2, 3), (3, 0), (3, 1), (3, 3)]
    assert all(same(*pair) for pair in zip(found, expected, strict=True))


def test_a_diverged_student_is_named_and_nothing_that_is_no_number_is_kept(tmp_path: Path) -> None:
    protocol = replace(HARD, epochs=4)
    students = make(range(4), protocol, HardLabels(LABELS, CLASSES), name="number")
    points = points_in(tmp_path)
    broken = students[2]
    loss = broken._loss
    broken._loss = lambda epoch, *batch: loss(epoch, *batch) * (float("nan") if epoch == 1 else 1)  # type: ignore[method-assign]
    with pytest.raises(StageFailed, match=r"number 2 diverged \(loss nan\); lower the learning rate"):
        fit(tmp_path, students, points)
    assert {point.restore(NETWORKS[place]())[0] for place, point in enumerate(points)} == {1}
    # Without it, its companions go on from there.
    rest = [0, 1, 3]
    found = fit(tmp_path, make(rest, protocol, HardLabels(LABELS, CLASSES)), [points[place] for place in rest])
    for place, weights in zip(rest, found, strict=True):
        (alone,) = fit(tmp_path, make([place], protocol, HardLabels(LABELS, CLASSES)))
        assert same(alone, weights)


def test_points_are_written_at_most_once_in_so_many_seconds_of_a_students_own(tmp_path: Path) -> None:
    students = make(range(2), replace(HARD, epochs=6), HardLabels(LABELS, CLASSES))
    clock = SharedClock([0.0, 0.0], torch.device("cpu"))
    saved: list[tuple[int, int]] = []

    class Point(TrainingPoint):
        def save(self, network: nn.Module, optimizer: torch.optim.Optimizer, epochs: int, extra: object = None) -> None:
            saved.append((int(self.path.name), epochs))

    def charge(among: Sequence[int]) -> None:
        if len(list(among)) == 1:  # a turn: 1 s of the first, 2 s of the second
            clock.seconds[among[0]] += 1 + among[0]

    clock.charge = charge  # type: ignore[method-assign,assignment]
    points = CohortPoints([Point(tmp_path / name) for name in ("0", "1")], seconds=4.0)
    trainer = make_trainer(Compute("cpu", "float32"), max_epochs=6, folder=tmp_path, callbacks=[points])
    trainer.fit(Cohort(students, students[0].source, clock))
    assert saved == [(1, 2), (0, 4), (1, 4), (1, 6)]


def test_the_display_counts_every_students_epochs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    students = make(range(3), HARD, HardLabels(LABELS, CLASSES))
    cohort = Cohort(students, students[0].source, SharedClock([0.0] * 3, torch.device("cpu")))
    with StageProgress("evaluation", 3 * EPOCHS, "epochs") as progress:
        shown = [CohortProgress(progress, "toy 0,1,2")]
        make_trainer(Compute("cpu", "float32"), max_epochs=EPOCHS, folder=tmp_path, callbacks=shown).fit(cohort)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("evaluation: 9/9 epochs (100 %)")
    assert f"student toy 0,1,2, loss {cohort.last_loss:.4g}" in last
