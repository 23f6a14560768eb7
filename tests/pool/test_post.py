"""Pruned models of one base model: their weights and facts, and that each is made once."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from teddy.config.build import build
from teddy.config.errors import StageFailed, UserError
from teddy.data.batches import EpochOrder
from teddy.data.datamodule import stratified_split
from teddy.models.pruning import replay, size_of
from teddy.pool.base import base_model
from teddy.pool.members import ModelPool
from teddy.pool.post import PostPool
from teddy.pool.pruned_model import PrunedModel
from teddy.pool.trajectory import BaseTraining
from teddy.runtime.resume import load_tensors
from teddy.runtime.seeding import stable_seed

MakeBase = Callable[..., BaseTraining]
STEPS = math.ceil(1800 / 64)  # of an epoch: nine tenths of 2000 images in batches of 64
BUDGETS = (0, round(0.15 * STEPS), round(0.6 * STEPS))


def post(**changes: Any) -> PostPool:
    settings: dict[str, Any] = dict(
        _target_="teddy.pool.post.PostPool",
        size=3,
        base="trained",
        macs=0.66,
        parameters=None,
        step=0.01,
        epochs=0.6,
        lr=0.1,
        lr_end=0.001,
        momentum=0.9,
        weight_decay=1e-4,
        batch_size=64,
        recalibrate=600,
    )
    made: PostPool = build("pool.strategy", {**settings, **changes}, PostPool)
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, make_base: MakeBase) -> tuple[BaseTraining, ModelPool]:
    base = make_base(tmp_path_factory.mktemp("post"))
    return base, post().make(base)


def facts(base: BaseTraining) -> list[dict[str, Any]]:
    return [artifact.facts for artifact in base.store.made if artifact.kind == "pruned"]


def files(pool: ModelPool) -> list[bytes]:
    return [path.read_bytes() for member in pool.members for path in (member.file, member.history) if path is not None]


def test_members_are_distinct_and_of_one_size(made: tuple[BaseTraining, ModelPool]) -> None:
    base, pool = made
    assert pool.description == "post 0-0.6 (3)"
    assert len({member.identity for member in pool.members}) == 3
    histories = [json.loads(member.history.read_text()) for member in pool.members if member.history]
    assert len({json.dumps(history) for history in histories}) == 3
    networks = [pool.load(index) for index in range(3)]
    example = torch.zeros(1, 1, 28, 28)
    sizes = {size_of(network, example) for network in networks}
    assert len(sizes) == 1
    whole = ModelPool((base_model(base, "trained"),), base.dataset.spec, "").load(0)
    assert sizes.pop()[0] <= 0.66 * size_of(whole, example)[0]
    for network in networks:
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_budgets_are_dense_at_the_start(made: tuple[BaseTraining, ModelPool]) -> None:
    base, pool = made
    assert [member.epoch for member in pool.members] == [0.0, 0.15, 0.6]
    assert [fact["steps"] for fact in facts(base)] == list(BUDGETS)
    ten = post(size=10, epochs=2.0)
    budgets = [ten.budget(index) for index in range(10)]
    assert (budgets[0], budgets[-1]) == (0.0, 2.0)
    assert budgets == [round(2 * (index / 9) ** 2, 4) for index in range(10)]
    assert post(size=1, epochs=2.0).budget(0) == 0.0


def test_noted_facts_are_those_of_the_weights(made: tuple[BaseTraining, ModelPool]) -> None:
    base, pool = made
    train, spec = base.dataset.train, base.dataset.spec
    _, held = stratified_split(train.labels, base.holdout, base.seed)

    def right(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
        with torch.no_grad():
            return 100 * float((network(spec.normalise(images)).argmax(1) == labels).double().mean())

    for index, (member, fact) in enumerate(zip(pool.members, facts(base), strict=True)):
        network = pool.load(index)
        found = right(network, train.take(torch.from_numpy(held)), train.labels[held])
        assert member.top1_holdout == fact["top1_holdout"] == pytest.approx(found, abs=1e-3)
        assert (fact["macs"], fact["parameters"]) == size_of(network, torch.zeros(1, 1, 28, 28))
    total = base_model(base, "trained").seconds + sum(member.seconds for member in pool.members)
    assert pool.seconds == pytest.approx(total)
    assert all(member.seconds > 0 for member in pool.members)


def slow_member(base: BaseTraining, history: Any, index: int, steps: int, calibration: int) -> nn.Module:
    """The same member from the base model's weights and the history, without Lightning and its hooks."""
    origin = base_model(base, "trained")
    network = ModelPool((origin,), base.dataset.spec, "").load(0).requires_grad_(True)
    replay(network, torch.zeros(1, 1, 28, 28), history)  # slices the weights as pruning did
    seed = stable_seed(base.seed, "pruned", index)
    train, spec = base.dataset.train, base.dataset.spec
    kept, _ = stratified_split(train.labels, base.holdout, base.seed)

    def inputs(indices: torch.Tensor, key: int, epoch: int) -> torch.Tensor:
        images = base.augment.apply(train.take(indices), indices, key, epoch, cropped=False)
        return spec.normalise(images).contiguous(memory_format=torch.channels_last)

    network.train()
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in layers if calibration else ():
        layer.reset_running_stats()
        layer.momentum = None
    key = stable_seed(seed, "calibration")
    for _, indices in EpochOrder(kept, 128, key):
        chosen = indices[: max(calibration, 0)]
        calibration -= len(chosen)
        if len(chosen):
            with torch.no_grad():
                network(inputs(chosen, key, 0))
    for layer in layers:
        layer.momentum = 0.1
    rates = [0.1, 0.1 * math.sqrt(0.001 / 0.1), 0.1 * (0.001 / 0.1)]
    optimizer = torch.optim.SGD(network.parameters(), 1.0, 0.9, weight_decay=1e-4)
    epoch, done = 0, 0
    while done < steps:
        order = EpochOrder(kept, 64, seed)
        order.set_epoch(epoch)
        for _, indices in list(order)[: steps - done]:
            optimizer.param_groups[0]["lr"] = rates[3 * done // steps]
            optimizer.zero_grad()
            F.cross_entropy(network(inputs(indices, seed, epoch)), train.labels[indices]).backward()
            optimizer.step()
            done += 1
        epoch += 1
    return network


@pytest.mark.parametrize(("index", "steps"), list(enumerate(BUDGETS)))
def test_a_member_is_a_plain_loop_bit_for_bit(made: tuple[BaseTraining, ModelPool], index: int, steps: int) -> None:
    base, pool = made
    member = pool.members[index]
    assert member.history is not None
    expected = slow_member(base, json.loads(member.history.read_text()), index, steps, calibration=600).state_dict()
    found, _ = load_tensors(member.file)
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def test_a_budget_may_span_epochs(tmp_path: Path, made: tuple[BaseTraining, ModelPool]) -> None:
    base, _ = made
    pool = post(size=2, epochs=1.3, recalibrate=0).make(base)
    steps = round(1.3 * STEPS)
    assert pool.members[1].history is not None
    history = json.loads(pool.members[1].history.read_text())
    expected = slow_member(base, history, 1, steps, calibration=0).state_dict()
    found, _ = load_tensors(pool.members[1].file)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_the_second_call_finds_everything(
    made: tuple[BaseTraining, ModelPool], capsys: pytest.CaptureFixture[str]
) -> None:
    base, pool = made
    count = len(base.store.made)
    capsys.readouterr()
    again = post().make(base)
    assert again == pool
    assert len(base.store.made) == count
    assert "pool" not in capsys.readouterr().err


def test_a_member_does_not_depend_on_the_others(
    tmp_path: Path, make_base: MakeBase, made: tuple[BaseTraining, ModelPool]
) -> None:
    base, pool = made
    count = len(base.store.made)
    larger = post(size=5, epochs=2.4).make(base)
    # Budgets 0, 0.15, 0.6, 1.35, 2.4: the first three members are those of the smaller pool.
    assert larger.members[:3] == pool.members
    assert len(base.store.made) == count + 2
    other = post(size=1).make(make_base(tmp_path, seed=4))
    assert other.members[0].identity != pool.members[0].identity


class PowerCut(Exception):
    pass


def test_a_run_that_was_cut_off_keeps_finished_members(
    tmp_path: Path, make_base: MakeBase, made: tuple[BaseTraining, ModelPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_base(tmp_path)
    whole = PrunedModel.build
    begun: list[int] = []

    def cut(self: PrunedModel, folder: Path) -> dict[str, Any]:
        begun.append(self.index)
        result = whole(self, folder)
        if begun == [0, 1]:
            raise PowerCut
        return result

    monkeypatch.setattr(PrunedModel, "build", cut)
    with pytest.raises(PowerCut):
        post().make(base)
    pool = post().make(base)
    assert begun == [0, 1, 1, 2]
    assert files(pool) == files(made[1])
    assert [member.identity for member in pool.members] == [member.identity for member in made[1].members]


def test_damaged_files_are_found_and_made_again(tmp_path: Path, make_base: MakeBase) -> None:
    base = make_base(tmp_path)
    pool = post(size=1).make(base)
    member = pool.members[0]
    assert member.history is not None
    text, weights = member.history.read_text(), member.file.read_bytes()
    member.history.write_text(text.replace("features.0", "features.9"))
    assert len(post(size=1).make(base)) == 1
    assert member.history.read_text() == text
    member.file.write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert [one.identity for one in post(size=1).make(base).members] == [member.identity]
    assert member.file.read_bytes() == weights


@pytest.mark.parametrize("act", ["check", "make"])
@pytest.mark.parametrize(
    ("changes", "network", "why"),
    [
        (dict(macs=1e-5), "convnet3_w16", r"cannot bring .* raise pool\.strategy\.macs"),
        (dict(macs=1.2e9), "convnet3_w16", r"nothing to prune"),
        (dict(base="nowhere.pth"), "convnet3_w16", r"pool\.base=nowhere\.pth is no file"),
        (dict(base="pretrained"), "convnet3_w16", r"pool\.base=pretrained"),
    ],
)
def test_what_cannot_be_made_is_refused_before_the_base_is_trained(
    tmp_path: Path, make_base: MakeBase, act: str, changes: dict[str, Any], network: str, why: str
) -> None:
    base = make_base(tmp_path, network=network)
    with pytest.raises(UserError, match=why):
        post(**changes).check(base) if act == "check" else post(**changes).make(base)
    assert not base.store.root.exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", 0),
        ("size", 2.5),
        ("macs", 0),
        ("macs", -1.0),
        ("parameters", float("nan")),
        ("step", 0),
        ("step", 0.9),
        ("epochs", -0.1),
        ("epochs", float("inf")),
        ("lr", 0),
        ("lr_end", 0),
        ("lr_end", 0.2),
        ("momentum", -0.1),
        ("weight_decay", -1e-4),
        ("batch_size", 1),
        ("recalibrate", -1),
        ("recalibrate", 10.5),
    ],
)
def test_a_number_out_of_range_is_refused_by_its_key(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"pool\.strategy\.{key}=.* must be ") as caught:
        post(**{key: value})
    assert "\n" not in str(caught.value)


def test_a_target_is_needed() -> None:
    with pytest.raises(UserError, match=r"pool\.strategy\.macs and pool\.strategy\.parameters are both null"):
        post(macs=None)


def test_the_same_number_is_the_same_artifact(tmp_path: Path, made: tuple[BaseTraining, ModelPool]) -> None:
    base, _ = made
    first = post(size=1, macs=None, parameters=6e3).make(base)
    assert post(size=1, macs=None, parameters=6000).make(base) == first


def test_new_batchnorm_statistics_make_a_pruned_network_useful(tmp_path: Path, make_base: MakeBase) -> None:
    """Without fine-tuning, the base model's statistics are wrong for what is left of it."""
    base = make_base(tmp_path)
    post(epochs=0.0, macs=0.5).make(base)
    found = facts(base)
    gain = [fact["top1_recalibrated_holdout"] - fact["top1_pruned_holdout"] for fact in found]
    assert sum(gain) / len(gain) > 3, found
    assert all(fact["top1_holdout"] == fact["top1_recalibrated_holdout"] for fact in found)
    assert {fact["steps"] for fact in found} == {0}


def test_divergence_ends_in_a_sentence_and_leaves_no_member(tmp_path: Path, make_base: MakeBase) -> None:
    base = make_base(tmp_path)
    with pytest.raises(StageFailed, match=r"pruned model post 2/2 diverged; lower pool\.strategy\.lr=1e\+30"):
        replace(post(size=2), lr=1e30).make(base)  # beyond what a configuration may ask for
    assert [fact["epoch"] for fact in facts(base)] == [0.0]
