"""TESLA against MTT and against the formula of its paper, in float64; its memory; soft labels."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from teddy.methods.mtt import MTT
from teddy.methods.tesla import TESLA
from teddy.models.networks import build_network
from tests.methods.test_mtt import SETTINGS
from tests.methods.unrolled import NETWORK, double_state, random_weights


def gradients(method: MTT, network: str = NETWORK) -> tuple[Any, torch.Tensor]:
    """The state with gradients in ``.grad``, and the objective."""
    state = double_state(method, network)
    batch = partial(method.batch, state, state.labels, 7)
    return state, method.match(state, random_weights(1, network), random_weights(2, network), batch)


def tesla(**changes: Any) -> TESLA:
    return TESLA(**{**SETTINGS, "exact": True, "soft_labels": False, **changes})


@pytest.mark.parametrize("network", [NETWORK, "convnet1_w4_bn"])
@pytest.mark.parametrize("batch_syn", [None, 4])
def test_its_gradient_is_that_of_mtt(network: str, batch_syn: int | None) -> None:
    expected, distance = gradients(MTT(**{**SETTINGS, "batch_syn": batch_syn}), network)
    found, same = gradients(tesla(batch_syn=batch_syn), network)
    assert torch.allclose(same, distance, rtol=1e-12)
    assert torch.allclose(found.rate.grad, expected.rate.grad, rtol=1e-9)
    assert torch.allclose(found.pixels.grad, expected.pixels.grad, rtol=1e-9, atol=1e-12)


def test_the_papers_gradient_takes_the_weights_of_each_step_as_given() -> None:
    """``2 / D * d/dx_i (alpha (theta*_{t+M} - theta*_t) + alpha^2 G) . g_i`` with the factor 2, G the sum of all g_i."""
    method = tesla(exact=False)
    found, _ = gradients(method)
    state, start, target = double_state(method), random_weights(1), random_weights(2)
    rate, weights, slopes = state.rate.item(), start.clone(), []
    for index in range(method.inner_steps):
        images, labels = method.batch(state, state.labels, 7, index)
        here = weights.clone().requires_grad_()
        loss = F.cross_entropy(state.shared.network(here, images), labels)
        slopes.append(torch.autograd.grad(loss, here, create_graph=True)[0])
        weights = weights - rate * slopes[-1].detach()
    total, scale = sum(one.detach() for one in slopes), (start - target).square().sum()
    front = rate * (target - start) + rate**2 * total
    expected = sum(torch.autograd.grad(2 / scale * (front @ one), state.pixels, retain_graph=True)[0] for one in slopes)
    assert torch.allclose(found.pixels.grad, expected, rtol=1e-9, atol=1e-12)
    assert torch.allclose(found.rate.grad, -2 / scale * (weights - target) @ total, rtol=1e-9)
    assert not torch.allclose(found.pixels.grad, gradients(tesla())[0].pixels.grad, rtol=1e-2)


class Kept:
    """A tensor that autograd keeps; the class counts the bytes of all that there are."""

    now = peak = 0

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        Kept.now += tensor.nbytes
        Kept.peak = max(Kept.peak, Kept.now)

    def __del__(self) -> None:
        Kept.now -= self.tensor.nbytes


def peak_bytes(method: MTT) -> int:
    Kept.now = Kept.peak = 0
    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        gradients(method)
    return Kept.peak


def test_the_graph_is_that_of_one_step_however_many_there_are() -> None:
    two, eight = (peak_bytes(tesla(inner_steps=steps, strategy="none")) for steps in (2, 8))
    assert two == eight > 0
    two, eight = (peak_bytes(MTT(**{**SETTINGS, "inner_steps": steps, "strategy": "none"})) for steps in (2, 8))
    assert eight > 3.5 * two


def test_soft_labels_are_the_predictions_of_the_target_expert() -> None:
    method = tesla(soft_labels=True, batch_syn=4)
    state, target = double_state(method), random_weights(2)
    soft = method.targets(state, target)
    network = build_network(NETWORK, 3, 1, 8).double()
    torch.nn.utils.vector_to_parameters(target, network.parameters())
    assert torch.allclose(soft, network(state.pixels).softmax(1))
    assert not soft.requires_grad
    _, targets = method.batch(state, soft, 7, 1)
    assert targets.shape == (2, 3)
    assert method.match(state, random_weights(1), target, partial(method.batch, state, soft, 7)).isfinite()
    assert state.pixels.grad.abs().sum() > 0
