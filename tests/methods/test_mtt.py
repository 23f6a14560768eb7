"""Trajectory matching against training by torch's own optimizer and finite differences; and what it refuses."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from teddy.config.errors import UserError
from teddy.data.spec import DatasetSpec
from teddy.methods import unrolled
from teddy.methods.mtt import MTT
from teddy.pool.experts import Experts
from teddy.pool.prior import PriorPool
from teddy.pool.single import SinglePool
from teddy.runtime.device import DeviceConfig
from teddy.runtime.resume import load_point
from teddy.synthesis.engine import optimise, start_state
from tests.methods.test_run import DEVICE, run_in
from tests.methods.unrolled import NETWORK, assert_slopes, double_state, random_weights, toy_inputs, trained
from tests.pool.test_trajectory import CONSTANT, base
from tests.synthesis.test_engine import held

SETTINGS: dict[str, Any] = dict(
    title="MTT",
    ipc=2,
    iterations=7,
    lr=20.0,
    momentum=0.5,
    inner_steps=4,
    expert_epochs=2,
    max_start_epoch=2,
    inner_lr=0.3,
    lr_lr=0.01,
    batch_syn=None,
    strategy="dsa",
    ema_decay=0.0,
)


@pytest.mark.parametrize("batch_syn", [None, 3])
@pytest.mark.parametrize("network", [NETWORK, "convnet1_w4_bn"])
def test_objective_and_gradients_are_those_of_a_training_by_hand(batch_syn: int | None, network: str) -> None:
    method = MTT(**{**SETTINGS, "batch_syn": batch_syn})
    state = double_state(method, network)
    start, target = random_weights(1, network), random_weights(2, network)

    def distance(pixels: torch.Tensor, rate: float) -> float:
        student = trained(method, pixels, rate, start, state.labels, network)
        end = nn.utils.parameters_to_vector(student.parameters()).detach()
        return ((end - target).square().sum() / (start - target).square().sum()).item()

    loss = method.match(state, start, target, partial(method.batch, state, state.labels, 7))
    assert loss.item() == pytest.approx(distance(state.pixels.detach(), 0.3), rel=1e-6)
    assert_slopes(distance, state.pixels.detach(), state.rate.item(), state.pixels.grad, state.rate.grad)


def test_every_image_has_its_turn_in_small_batches() -> None:
    method = MTT(**{**SETTINGS, "batch_syn": 4, "strategy": "none"})
    state = double_state(method)
    seen = [method.batch(state, state.labels, 0, index) for index in range(4)]
    assert [len(images) for images, _ in seen] == [4, 2, 4, 2]
    firsts, seconds = (torch.cat([images for images, _ in part]) for part in (seen[:2], seen[2:]))
    assert not torch.equal(firsts, seconds)
    for images in (firsts, seconds):
        order = torch.cdist(images.flatten(1), state.pixels.flatten(1)).argmin(1)
        assert sorted(order.tolist()) == list(range(6))
    assert torch.equal(torch.cat([labels for _, labels in seen[2:]]), state.labels[order])


def test_segments_are_those_of_the_experts(tmp_path: Path) -> None:
    inputs, method = toy_inputs(tmp_path), MTT(**SETTINGS)
    shared = method.prepare(inputs, DeviceConfig("cpu", "32-true"))
    state = start_state(method, inputs, 3, method.groups(inputs.spec)[0], shared, torch.device("cpu"))
    known = {
        (expert, epoch): shared.network.flatten(trajectory.weights(epoch))
        for expert, trajectory in enumerate(inputs.pool.trajectories)
        for epoch in trajectory.epochs
    }
    drawn = set()
    for iteration in range(40):
        ends = [
            next(key for key, weights in known.items() if torch.equal(weights, end))
            for end in method.segment(state, iteration)
        ]
        assert ends[1] == (ends[0][0], ends[0][1] + 2)
        drawn.add(ends[0])
    assert drawn == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_the_distance_falls_and_the_rate_is_learned(tmp_path: Path) -> None:
    method = MTT(**{**SETTINGS, "iterations": 61, "max_start_epoch": 1, "expert_epochs": 1})
    made = optimise(method, toy_inputs(tmp_path), run_in(tmp_path / "run"))
    rows = [row.split(",") for row in (tmp_path / "run" / "terms.csv").read_text().splitlines()]
    assert rows[0][2:] == ["trajectory_distance", "learned_lr"]
    assert float(rows[-1][2]) < float(rows[1][2])
    assert float(rows[1][3]) == pytest.approx(0.3)
    assert made.facts["learned_lr"] != pytest.approx(0.3)


def test_the_rate_stays_positive(tmp_path: Path) -> None:
    method = MTT(**{**SETTINGS, "lr_lr": 1e6})
    made = optimise(method, toy_inputs(tmp_path), run_in(tmp_path / "run"))
    assert made.facts["learned_lr"] >= unrolled.LEAST_RATE * (1 - 1e-6)
    terms = [float(row.split(",")[3]) for row in (tmp_path / "run" / "terms.csv").read_text().splitlines()[1:]]
    assert min(terms) >= unrolled.LEAST_RATE * (1 - 1e-6)


def test_the_result_is_the_moving_average_of_the_images(tmp_path: Path) -> None:
    inputs = toy_inputs(tmp_path)
    method = MTT(**{**SETTINGS, "ema_decay": 0.8})
    shared = method.prepare(inputs, DeviceConfig("cpu", "32-true"))
    state: Any = start_state(method, inputs, 3, method.groups(inputs.spec)[0], shared, torch.device("cpu"))
    optimizer, average = method.optimizer(state), state.pixels.detach().clone()
    for iteration in range(4):
        optimizer.zero_grad()
        method.step(state, iteration)
        optimizer.step()
        average = 0.8 * average + 0.2 * state.pixels.detach()
    assert torch.allclose(method.result(state), average, atol=1e-5)
    assert not torch.allclose(average, state.pixels.detach(), atol=1e-2)
    plain = dataclasses.replace(method, ema_decay=0.0)
    assert torch.equal(plain.result(state), state.pixels.detach())


@dataclass(frozen=True, kw_only=True)
class Killed(MTT):
    """MTT that is stopped in an iteration."""

    stop: int

    def step(self, state: Any, iteration: int) -> dict[str, torch.Tensor]:
        if iteration == self.stop:
            raise KeyboardInterrupt
        return super().step(state, iteration)


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """Pixels, their average, the learned rate and the momentum of both."""
    settings = {**SETTINGS, "ema_decay": 0.9, "batch_syn": 4}
    method, inputs = MTT(**settings), toy_inputs(tmp_path)
    (block,) = method.groups(inputs.spec)[0]
    optimise(method, inputs, run_in(tmp_path / "whole"))
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - Lightning ends an interrupted fit by SystemExit
        optimise(Killed(**settings, stop=5), inputs, run_in(tmp_path / "cut"))
    assert caught.type in (KeyboardInterrupt, SystemExit)
    tensors, notes = load_point(tmp_path / "cut" / ".resume-00000.safetensors")
    assert notes["iteration"] == 3
    assert {"method.rate", "method.average"} <= set(tensors)
    optimise(method, inputs, run_in(tmp_path / "cut"))
    assert held(tmp_path / "cut", block) == held(tmp_path / "whole", block)


def experts(**changes: Any) -> Experts:
    settings: dict[str, Any] = dict(count=2, epochs=3, lr=0.05, momentum=0.0, weight_decay=0.0, batch_size=16)
    return Experts(**{**settings, **changes})


@pytest.mark.parametrize(
    ("changes", "pool", "fragment"),
    [
        ({"max_start_epoch": 3}, experts(), r"needs the weights of epochs up to 4 .*keeps 0, 1, 2, 3; lower these"),
        ({"expert_epochs": 3, "max_start_epoch": 1}, PriorPool(first=1, last=3, every=2), None),
        ({"expert_epochs": 1, "max_start_epoch": 1}, PriorPool(first=1, last=3, every=2), None),
        (
            {"expert_epochs": 2, "max_start_epoch": 1},
            PriorPool(first=1, last=3, every=2),
            r"keeps 0, 1, 3; lower these",
        ),
        ({}, SinglePool(base="trained"), r"trajectories, which a pool of kind converged does not have"),
        ({}, experts(), None),
    ],
)
def test_trajectories_that_are_too_short_are_found_out_before_any_training(
    tmp_path: Path, changes: dict[str, Any], pool: Any, fragment: str | None
) -> None:
    made, method = base(tmp_path, CONSTANT), MTT(**{**SETTINGS, **changes})  # three epochs, of which 1 and 3 are kept
    if fragment is None:
        method.check_run(pool, made)
    else:
        with pytest.raises(UserError, match=fragment):
            method.check_run(pool, made)
    assert not made.store.root.exists()


def test_what_cannot_be_one_student_is_refused(tmp_path: Path) -> None:
    for change in ({"batch_size": 3}, {"blocks_at_once": 2}):
        with pytest.raises(UserError, match="leave batch_size=null and blocks_at_once=1"):
            MTT(**SETTINGS, **change).check(2)
    MTT(**SETTINGS).check(2)
    spec = toy_inputs(tmp_path).spec
    with pytest.raises(UserError, match="batch_syn=7 of MTT is more than the 6 images of the set"):
        MTT(**{**SETTINGS, "batch_syn": 7}).check_data(spec)
    MTT(**{**SETTINGS, "batch_syn": 6}).check_data(spec)


def test_a_graph_that_does_not_fit_is_refused_with_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, method = base(tmp_path, CONSTANT), MTT(**{**SETTINGS, "inner_steps": 1000})
    monkeypatch.setattr(unrolled, "free_bytes", lambda accelerator: 1_000_000)
    with pytest.raises(UserError, match=r"1000 inner steps of 6 images of convnet2_w8, about \d\.\d GB, and 0\.0 GB"):
        method.check_run(experts(), made)
    monkeypatch.setattr(unrolled, "free_bytes", lambda accelerator: None)
    method.check_run(experts(), made)


PEAK = """
import torch
from teddy.methods.unrolled import unroll
from teddy.models.networks import build_network
from teddy.models.stateless import StatelessNetwork
from teddy.runtime.memory import PeakMemory

network = StatelessNetwork(build_network("convnet3_in", 10, 3, 32))
batch = torch.randn(40, 3, 32, 32, requires_grad=True), torch.arange(40) % 10
memory = PeakMemory("cpu")
before = memory.megabytes()
rate = torch.tensor(0.02, requires_grad=True)
unroll(network, network.initial.clone(), lambda _: batch, range(3), rate).square().sum().backward()
print(memory.megabytes() - before)
"""


def test_the_size_of_the_graph_is_near_the_memory_of_a_real_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps of 40 images of 32 x 32 pixels; without the way back the estimate would be half of it."""
    measured = float(subprocess.run([sys.executable, "-c", PEAK], stdout=subprocess.PIPE, check=True).stdout)
    monkeypatch.setattr(unrolled, "free_bytes", lambda accelerator: 0)
    spec = DatasetSpec("toy", 10, 3, 32, (0.5,) * 3, (0.2,) * 3, tuple("abcdefghij"), tuple("abcdefghij"))
    method = MTT(**{**SETTINGS, "inner_steps": 3, "batch_syn": 40, "ipc": 4})
    with pytest.raises(UserError) as refused:
        method.check_memory("convnet3_in", spec, DEVICE)
    (estimate,) = re.findall(r"about ([\d.]+) GB", str(refused.value))
    assert 0.75 < float(estimate) * 1000 / measured < 1.4
