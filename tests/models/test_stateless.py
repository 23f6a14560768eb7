"""A network with its weights as an argument, against the network itself and finite differences."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from teddy.models.networks import build_network
from teddy.models.stateless import StatelessNetwork


def build(norm: str = "in") -> torch.nn.Module:
    return build_network(f"convnet1_w4_{norm}", 3, 1, 8, seed=0)


def test_it_is_the_network_under_other_weights():
    other, images = build_network("convnet1_w4_bn", 3, 1, 8, seed=1).train(), torch.randn(5, 1, 8, 8)
    stateless = StatelessNetwork(build("bn"))
    weights = stateless.flatten(other.state_dict())
    assert not torch.equal(weights, stateless.initial)
    assert torch.allclose(stateless(weights, images), other(images))


def test_unflattening_undoes_flattening():
    network = build()
    stateless = StatelessNetwork(network)
    named = stateless.unflatten(stateless.initial)
    assert list(named) == [name for name, _ in network.named_parameters()]
    assert all(torch.equal(named[name], each) for name, each in network.named_parameters())


def test_the_gradient_through_a_training_step_agrees_with_finite_differences():
    stateless = StatelessNetwork(build().double())
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(3, 1, 8, 8, dtype=torch.float64, generator=draws, requires_grad=True)
    real, labels = torch.randn(6, 1, 8, 8, dtype=torch.float64, generator=draws), torch.arange(3)

    def after_a_step(images: torch.Tensor) -> torch.Tensor:
        weights = stateless.initial.double().requires_grad_()
        loss = F.cross_entropy(stateless(weights, images), labels)
        (slope,) = torch.autograd.grad(loss, weights, create_graph=True)
        return F.cross_entropy(stateless(weights - 0.1 * slope, real), labels.repeat(2))

    assert torch.autograd.gradcheck(after_a_step, (images,), eps=1e-6, atol=1e-5)
