"""Expert trajectories: independent trainings, each an artifact of its own, with the weights of every epoch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from teddy.data.datamodule import stratified_split
from teddy.models.networks import build_network
from teddy.pool.experts import Experts
from teddy.pool.members import ModelPool
from teddy.pool.prior import PriorPool
from teddy.pool.sharpness import Sharpness
from teddy.pool.teacher import TeacherTraining
from teddy.pool.trajectory import BaseTraining, trajectory
from tests.pool.test_trajectory import PowerCut, base, dataset, weights


def experts(**changes: Any) -> Experts:
    settings: dict[str, Any] = dict(count=2, epochs=3, lr=0.05, momentum=0.0, weight_decay=0.0, batch_size=16)
    return Experts(**{**settings, **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[BaseTraining, ModelPool]:
    made = base(tmp_path_factory.mktemp("whole"))
    return made, experts().make(made)


def test_every_epoch_is_there_from_the_untrained_network_on(whole: tuple[BaseTraining, ModelPool]) -> None:
    _, pool = whole
    assert [one.epochs for one in pool.trajectories] == [[0, 1, 2, 3]] * 2
    first = pool.trajectories[0]
    untrained = build_network("convnet2_w8", 3, 1, 8, seed=first.seed).state_dict()
    assert all(torch.equal(tensor, untrained[name]) for name, tensor in first.weights(0).items())
    assert pool.members == tuple(one.members[-1] for one in pool.trajectories)
    last = pool.load(0).state_dict()
    assert all(torch.equal(tensor, last[name]) for name, tensor in first.weights(3).items())
    ends = [first.weights(epoch)["classifier.weight"] for epoch in first.epochs]
    assert all(not torch.equal(one, other) for i, one in enumerate(ends) for other in ends[:i])
    assert not torch.equal(ends[0], pool.trajectories[1].weights(0)["classifier.weight"])
    assert (pool.description, pool.seconds) == ("experts 3-3 (2)", sum(member.seconds for member in pool.members))
    assert experts().members([]) == len(pool)


def test_all_experts_leave_out_the_images_that_the_run_holds_out(whole: tuple[BaseTraining, ModelPool]) -> None:
    made, _ = whole
    held = stratified_split(made.dataset.train.labels, made.holdout, made.seed)[1].tolist()
    for training in experts().trainings(made):
        assert training.seed != made.seed
        assert training.open_data(16).held_indices.tolist() == held


def test_more_experts_are_added_to_those_there_are(tmp_path: Path, whole: tuple[BaseTraining, ModelPool]) -> None:
    made, two = whole
    before = len(made.store.made)
    three = experts(count=3).make(made)
    assert len(made.store.made) == before + 1
    assert three.trajectories[:2] == two.trajectories
    assert len({two.fingerprint, three.fingerprint, experts(count=1).make(made).fingerprint}) == 3


@pytest.mark.parametrize(
    "change",
    [{"epochs": 2}, {"lr": 0.1}, {"sharpness": Sharpness(rho=0.1, alpha=0.5)}, {"network": "convnet1_w4_in"}],
    ids=lambda change: next(iter(change)),
)
def test_what_a_trajectory_depends_on_is_in_the_fingerprint(
    tmp_path: Path, whole: tuple[BaseTraining, ModelPool], change: dict[str, Any]
) -> None:
    other = experts(count=1, **change).make(base(tmp_path))
    assert other.fingerprint != experts(count=1).make(whole[0]).fingerprint
    last = other.trajectories[0].epochs[-1]
    same = whole[1].trajectories[0].weights(last)
    assert all(torch.isfinite(tensor).all() for tensor in other.load(0).state_dict().values())
    if "network" not in change:
        trained = other.trajectories[0].weights(last)
        changed = any(not torch.equal(tensor, same[name]) for name, tensor in trained.items())
        assert changed == ("epochs" not in change), "a shorter training goes the same way"


def test_a_killed_run_keeps_the_experts_that_were_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: tuple[BaseTraining, ModelPool]
) -> None:
    made, trained, step = base(tmp_path), [], TeacherTraining.training_step

    def spy(self: TeacherTraining, batch: Any, batch_idx: int) -> torch.Tensor:
        trained.append(self.seed)
        if len(set(trained)) == cut:
            raise PowerCut
        return step(self, batch, batch_idx)

    monkeypatch.setattr(TeacherTraining, "training_step", spy)
    first, second = (one.seed for one in experts().trainings(made))
    cut = 2
    with pytest.raises(PowerCut):
        experts().make(made)
    assert set(trained) == {first, second}
    trained.clear()
    pool = experts().make(made)
    assert set(trained) == {second}
    for one, other in zip(pool.trajectories, whole[1].trajectories, strict=True):
        assert weights(list(one.members)) == weights(list(other.members))


def test_a_prior_pool_is_one_trajectory(tmp_path: Path) -> None:
    made = base(tmp_path, save_every=1)
    strategy = PriorPool(first=2, last=3, every=1)
    pool = strategy.make(made)
    (found,) = pool.trajectories
    assert strategy.trainings(made) == [made]
    assert (found.epochs, list(found.members)) == ([0, 1, 2, 3], trajectory(made))
    assert len(pool.members) == 2


def test_the_names_of_trainings_without_a_split_of_their_own_are_as_before(tmp_path: Path) -> None:
    """A field that is added must not rename what is in stores."""
    plain = base(tmp_path, dataset=dataset())
    assert set(plain.content()) == {
        *("version", "dataset", "network", "recipe", "augment", "holdout", "save_every", "seed", "precision")
    }
    assert "sharpness" not in plain.content()["recipe"]
    assert replace(plain, holdout_seed=9).content() != plain.content()
    assert replace(plain, name="pool/expert1").content() == plain.content()
