"""Schedules against closed forms and torch's own; optimizers by what they do to parameters."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from teddy.evaluation.protocol import Protocol
from teddy.models.networks import build_network

PAPER = Protocol(
    labels="soft",
    augment="views",
    optimizer="adamw",
    lr=1e-3,
    momentum=0.9,
    weight_decay=0.01,
    batch_size=1024,
    epochs=300,
    schedule="cosine",
    eta=1.0,
)


@pytest.mark.parametrize("epochs", [1, 7, 300])
def test_cosine_is_torchs(epochs: int) -> None:
    protocol = replace(PAPER, epochs=epochs)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        assert math.isclose(
            protocol.lr * protocol.lr_factor(epoch), optimizer.param_groups[0]["lr"], rel_tol=1e-9, abs_tol=1e-15
        )
        optimizer.step()
        scheduler.step()


def test_eta_stretches_the_cosine() -> None:
    stretched = replace(PAPER, eta=2.0)
    assert stretched.lr_factor(0) == 1
    assert stretched.lr_factor(150) == pytest.approx(math.cos(math.pi / 8) ** 2)  # (1 + cos 2x) / 2 = cos² x
    assert stretched.lr_factor(299) == pytest.approx(0.5, rel=6e-3)
    assert stretched.lr_factor(299) > 0.5
    assert PAPER.lr_factor(150) == pytest.approx(0.5)
    longer = replace(PAPER, epochs=600)
    assert [stretched.lr_factor(epoch) for epoch in range(300)] == [longer.lr_factor(epoch) for epoch in range(300)]


@pytest.mark.parametrize("epochs", [1, 2, 5, 1000])
def test_step_divides_once_by_ten(epochs: int) -> None:
    factors = [replace(PAPER, schedule="step", epochs=epochs).lr_factor(epoch) for epoch in range(epochs)]
    first = min(epochs, epochs // 2 + 1)
    assert factors == [1.0] * first + [0.1] * (epochs - first)


def test_milestones_are_shares_of_the_epochs() -> None:
    """As torch's MultiStepLR with the milestones of IDC's evaluation, each an epoch later where the share is a whole epoch."""
    protocol = replace(PAPER, schedule="step", epochs=300, milestones=(2 / 3, 5 / 6), gamma=0.2)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [201, 251], 0.2)
    for epoch in range(300):
        assert protocol.lr_factor(epoch) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()


def test_every_schedule_begins_at_the_given_rate() -> None:
    for name in ("cosine", "step"):
        assert replace(PAPER, schedule=name).lr_factor(0) == 1


def test_adamw_spares_what_has_one_dimension() -> None:
    network = build_network("resnet18_cifar_w8", 5, 3, 16)
    optimizer = PAPER.make_optimizer(network)
    assert type(optimizer) is torch.optim.AdamW
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decay) == sum(len(group["params"]) for group in optimizer.param_groups)
    one_dimensional = 0
    for name, parameter in network.named_parameters():
        single = name.endswith("bias") or "bn" in name or "downsample.1" in name
        assert decay[id(parameter)] == (0.0 if single else 0.01), name
        one_dimensional += single
    assert 0 < one_dimensional < len(decay)
    assert all(group["lr"] == 1e-3 and group["betas"] == (0.9, 0.999) for group in optimizer.param_groups)


def test_adamw_first_step_is_the_closed_form() -> None:
    """With no gradient but zero the first step is decay alone: kernels shrink by lr * wd, the rest stays."""
    network = nn.Linear(3, 2)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    replace(PAPER, lr=0.1, weight_decay=0.5).make_optimizer(network).step()
    torch.testing.assert_close(network.weight.detach(), before["weight"] * (1 - 0.1 * 0.5))
    assert torch.equal(network.bias, before["bias"])


def test_sgd_decays_everything_and_keeps_momentum() -> None:
    network = nn.Linear(1, 1)
    nn.init.constant_(network.weight, 2.0)
    nn.init.constant_(network.bias, 1.0)
    optimizer = replace(PAPER, optimizer="sgd", lr=0.1, momentum=0.5, weight_decay=0.2).make_optimizer(network)
    expected, velocity = [2.0, 1.0], [0.0, 0.0]
    for _ in range(3):
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        for i in (0, 1):
            velocity[i] = 0.5 * velocity[i] + 1 + 0.2 * expected[i]
            expected[i] -= 0.1 * velocity[i]
    assert [network.weight.item(), network.bias.item()] == pytest.approx(expected, rel=1e-6)


def test_a_protocols_optimizers_are_fresh() -> None:
    for name in ("adamw", "sgd"):
        protocol, network = replace(PAPER, optimizer=name), nn.Linear(2, 2)
        assert protocol.make_optimizer(network) is not protocol.make_optimizer(network)
        assert not protocol.make_optimizer(network).state
