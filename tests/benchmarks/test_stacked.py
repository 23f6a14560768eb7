"""The stacked prototype against separate students: a benchmark of a wrong thing would say nothing."""

import copy

import pytest
import torch

from benchmarks.stacked import StackedStudents
from teddy.labels.losses import soft_label_kl
from teddy.models.networks import build_network
from teddy.runtime.precision import Compute


@pytest.mark.parametrize("network", ["convnet3_w32", "resnet18_cifar_w16"])  # both have BatchNorm in training mode
def test_stacked_students_are_separate_ones_within_rounding(network):
    networks = [build_network(network, 10, 1, 28, seed=seed).train() for seed in range(3)]
    start = copy.deepcopy(networks)

    def make(parameters):
        return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4)

    stacked = StackedStudents(networks, make, temperature=4.0, compute=Compute("cpu", "float32"))
    optimizers = [make(one.parameters()) for one in networks]
    draws = torch.Generator().manual_seed(0)
    for _ in range(3):
        images, targets = torch.randn(3, 16, 1, 28, 28, generator=draws), torch.randn(3, 16, 10, generator=draws)
        losses = stacked.step(images, targets)
        for place, (one, optimizer) in enumerate(zip(networks, optimizers, strict=True)):
            loss = soft_label_kl(one(images[place]), targets[place], 4.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            torch.testing.assert_close(losses[place], loss.detach(), rtol=1e-4, atol=1e-6)
    for place, (one, before) in enumerate(zip(networks, start, strict=True)):
        found, expected = stacked.state(place), one.state_dict()
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-2, atol=1e-4)
            assert not torch.equal(value, before.state_dict()[name]), "it moved"
