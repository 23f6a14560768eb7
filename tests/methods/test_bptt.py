"""Backpropagation through training against torch's own optimizer and finite differences."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from teddy.config.errors import UserError
from teddy.methods import unrolled
from teddy.methods.bptt import BPTT
from teddy.pool.single import SinglePool
from teddy.runtime.device import DeviceConfig
from teddy.synthesis.engine import optimise, start_state
from tests.methods.test_run import run_in
from tests.methods.unrolled import NETWORK, assert_slopes, double_state, random_weights, toy_inputs, trained
from tests.pool.test_trajectory import CONSTANT, base

SETTINGS: dict[str, Any] = dict(
    title="BPTT",
    ipc=2,
    iterations=7,
    network=NETWORK,
    lr=0.05,
    betas=(0.5, 0.999),
    inner_steps=4,
    window=None,
    inner_lr=0.3,
    lr_lr=0.01,
    batch_syn=None,
    strategy="dsa",
    real_images=12,
)


def bptt(**changes: Any) -> BPTT:
    return BPTT(**{**SETTINGS, **changes})


def real_batch() -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randn(9, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    return images, torch.arange(3).repeat(3)


@pytest.mark.parametrize("batch_syn", [None, 3])
def test_objective_and_gradients_are_those_of_a_training_by_hand(batch_syn: int | None) -> None:
    method = bptt(batch_syn=batch_syn)
    state, start, (images, labels) = double_state(method), random_weights(1), real_batch()

    def real_loss(pixels: torch.Tensor, rate: float) -> float:
        student = trained(method, pixels, rate, start, state.labels, NETWORK)
        return F.cross_entropy(student(images), labels).item()

    loss = method.loss(state, start, partial(method.batch, state, state.labels, 7), images, labels)
    loss.backward()
    assert loss.item() == pytest.approx(real_loss(state.pixels.detach(), 0.3), rel=1e-6)
    assert_slopes(real_loss, state.pixels.detach(), state.rate.item(), state.pixels.grad, state.rate.grad)


def test_a_window_leaves_the_first_steps_undifferentiated() -> None:
    """The same weights, and the gradient of a training that starts where the window does."""
    start, real = random_weights(1), real_batch()
    found = double_state(bptt(window=1))
    batch = partial(bptt().batch, found, found.labels, 7)
    loss = bptt(window=1).loss(found, start, batch, *real)
    loss.backward()
    whole = double_state(bptt())
    assert torch.allclose(bptt().loss(whole, start, partial(bptt().batch, whole, whole.labels, 7), *real), loss)
    student = trained(bptt(inner_steps=3), found.pixels.detach(), found.rate.item(), start, found.labels, NETWORK)
    middle = torch.nn.utils.parameters_to_vector(student.parameters()).detach()
    last = double_state(bptt(inner_steps=1))
    bptt(inner_steps=1).loss(last, middle, lambda index: bptt().batch(last, last.labels, 7, 3), *real).backward()
    assert torch.allclose(found.pixels.grad, last.pixels.grad, rtol=1e-9, atol=1e-12)
    assert torch.allclose(found.rate.grad, last.rate.grad, rtol=1e-9)


def test_each_iteration_has_a_student_and_a_batch_of_its_own(tmp_path: Path) -> None:
    inputs, method = toy_inputs(tmp_path), bptt(real_images=60)
    shared = method.prepare(inputs, DeviceConfig("cpu", "32-true"))
    state = start_state(method, inputs, 3, method.groups(inputs.spec)[0], shared, torch.device("cpu"))
    images, labels = method.real_batch(state, 0)
    whole = inputs.spec.normalise(inputs.train.take(torch.arange(60)))
    order = torch.cdist(images.flatten(1), whole.flatten(1)).argmin(1)
    assert sorted(order.tolist()) == list(range(60))
    assert torch.equal(labels, inputs.train.labels[order])
    assert not torch.equal(method.real_batch(state, 1)[0], images)
    assert method.step(state, 0)["real_loss"] != method.step(state, 1)["real_loss"]


def test_the_loss_on_real_images_falls(tmp_path: Path) -> None:
    made = optimise(bptt(iterations=61, lr=0.1), toy_inputs(tmp_path), run_in(tmp_path / "run"))
    rows = [row.split(",") for row in (tmp_path / "run" / "terms.csv").read_text().splitlines()]
    assert rows[0][2:] == ["real_loss", "learned_lr"]
    assert float(rows[-1][2]) < float(rows[1][2])
    assert made.facts["learned_lr"] > 0


def test_learning_rates_are_halved_after_every_tenth() -> None:
    factors = [bptt(iterations=200).lr_factor(iteration) for iteration in (0, 19, 20, 40, 199)]
    assert factors == [1, 1, 0.5, 0.25, 0.5**9]


def test_a_window_or_a_graph_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="window=5 of BPTT is longer than the training, inner_steps=4"):
        bptt(window=5).check(None)
    made, pool = base(tmp_path, CONSTANT), SinglePool(base="trained")
    monkeypatch.setattr(unrolled, "free_bytes", lambda accelerator: 2_000_000)
    with pytest.raises(UserError, match=r"400 inner steps of 6 images .*or set a smaller window"):
        bptt(inner_steps=400).check_run(pool, made)
    bptt(inner_steps=400, window=2).check_run(pool, made)
    with pytest.raises(UserError, match="2 inner steps"):
        bptt(inner_steps=400, window=2, real_images=1000).check_run(pool, made)
