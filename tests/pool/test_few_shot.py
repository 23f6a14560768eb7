"""Few-shot teachers: independent trainings on a few images of each class."""

from __future__ import annotations

import fcntl
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from teddy.config.errors import UserError
from teddy.data.datamodule import stratified_split
from teddy.pool import trajectory as stage
from teddy.pool.few_shot import FewShotPool
from teddy.pool.members import ModelPool
from teddy.pool.teacher import TeacherTraining
from teddy.pool.trajectory import BaseTraining
from tests.pool.test_trajectory import PowerCut, base, weights


def few_shot(**changes: Any) -> FewShotPool:
    settings: dict[str, Any] = dict(
        count=2, images=5, epochs=4, every=2, lr=0.05, momentum=0.9, weight_decay=0.0, batch_size=8
    )
    return FewShotPool(**{**settings, **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[BaseTraining, ModelPool, dict[int, list[torch.Tensor]]]:
    """A base, the pool, and the indices of the batches of each training, by its seed."""
    made = base(tmp_path_factory.mktemp("whole"))
    batches: dict[int, list[torch.Tensor]] = {}
    step = TeacherTraining.training_step

    def spy(self: TeacherTraining, batch: Any, batch_idx: int) -> torch.Tensor:
        batches.setdefault(self.seed, []).append(batch[2])
        return step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TeacherTraining, "training_step", spy)
        pool = few_shot().make(made)
    return made, pool, batches


def test_each_training_sees_a_few_images_of_each_class_and_none_that_is_held_out(whole: Any) -> None:
    made, _, batches = whole
    labels = made.dataset.train.labels
    held = set(stratified_split(labels, made.holdout, made.seed)[1].tolist())
    seen = []
    for training in few_shot().trainings(made):
        indices = batches[training.seed]
        assert [len(one) for one in indices] == [8, 7] * 4, "15 images in batches of 8, four times"
        epochs = [set(torch.cat(indices[i : i + 2]).tolist()) for i in range(0, 8, 2)]
        assert all(epoch == epochs[0] for epoch in epochs)
        assert torch.bincount(labels[list(epochs[0])]).tolist() == [5, 5, 5]
        assert not epochs[0] & held
        assert training.open_data(8).held_indices.tolist() == sorted(held)
        seen.append(epochs[0])
    assert seen[0] != seen[1]


def test_a_class_with_fewer_images_gives_all_it_has(whole: Any) -> None:
    made, _, _ = whole
    (training,) = few_shot(count=1, images=1000).trainings(made)
    train, _ = stratified_split(made.dataset.train.labels, made.holdout, made.seed)
    assert training.open_data(8).train_indices.tolist() == train.tolist()


def test_members_are_the_weights_that_are_kept_with_their_accuracy_on_held_out_images(whole: Any) -> None:
    made, pool, _ = whole
    assert [member.epoch for member in pool.members] == [2, 4, 2, 4]
    assert (pool.description, len(pool)) == ("few-shot 2-4 (4)", few_shot().members([]))
    assert [one.epochs for one in pool.trajectories] == [[0, 2, 4]] * 2
    assert len({member.file.read_bytes() for member in pool.members}) == 4
    assert pool.seconds == pool.members[1].seconds + pool.members[3].seconds
    _, held = stratified_split(made.dataset.train.labels, made.holdout, made.seed)
    images = made.dataset.spec.normalise(made.dataset.train.take(torch.from_numpy(held)))
    for index, member in enumerate(pool.members):
        found = pool.load(index)(images).argmax(1) == made.dataset.train.labels[held]
        assert member.top1_holdout == pytest.approx(100 * found.float().mean().item(), abs=1e-3)


def test_more_trainings_are_added_to_those_there_are(whole: Any) -> None:
    made, pool, _ = whole
    before = len(made.store.made)
    assert few_shot(count=3).make(made).members[:4] == pool.members
    assert len(made.store.made) == before + 1
    assert few_shot(count=1, images=4).make(made).fingerprint != few_shot(count=1).make(made).fingerprint


def test_a_training_that_another_run_makes_is_waited_for_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Any
) -> None:
    made = base(tmp_path)
    first, *_ = few_shot().trainings(made)
    folder = made.store.folder("trajectory", first.content())
    folder.mkdir(parents=True)
    other_run = (folder / ".lock").open("w")
    fcntl.flock(other_run, fcntl.LOCK_EX)
    order, produce = [], made.store.produce

    def spy(kind: str, content: Any, *args: Any, **options: Any) -> Any:
        order.append(content["seed"])
        if content["seed"] == first.seed:
            other_run.close()
        return produce(kind, content, *args, **options)

    monkeypatch.setattr(made.store, "produce", spy)
    pool = few_shot().make(made)
    assert order == [one.seed for one in reversed(few_shot().trainings(made))]
    assert weights(list(pool.members)) == weights(list(whole[1].members)), "in the pool's own order"


def test_a_killed_training_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Any) -> None:
    monkeypatch.setattr(stage, "RESUME_SECONDS", 0.0)
    made, step, done = base(tmp_path), TeacherTraining.training_step, itertools.count(1)

    def cut(self: TeacherTraining, batch: Any, batch_idx: int) -> torch.Tensor:
        if next(done) > 6:  # in the fourth of eight epochs
            raise PowerCut
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TeacherTraining, "training_step", cut)
        with pytest.raises(PowerCut):
            few_shot().make(made)
    for one, other in zip(few_shot().make(made).trajectories, whole[1].trajectories, strict=True):
        assert weights(list(one.members)) == weights(list(other.members))


def test_epochs_without_validation_count_in_the_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that stands still but in training steps, which take a second each."""
    now = [0.0]
    step = TeacherTraining.training_step

    def slow(self: TeacherTraining, batch: Any, batch_idx: int) -> torch.Tensor:
        now[0] += 1
        return step(self, batch, batch_idx)

    monkeypatch.setattr(TeacherTraining, "training_step", slow)
    monkeypatch.setattr("teddy.pool.teacher.time", SimpleNamespace(monotonic=lambda: now[0]))
    pool = few_shot(count=1).make(base(tmp_path))
    assert [member.seconds for member in pool.members] == [4.0, 8.0]


def test_epochs_that_end_between_two_members_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="5 epochs does not end with a member every 2 epochs"):
        few_shot(epochs=5).check(base(tmp_path))
