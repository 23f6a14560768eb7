"""BatchNorm's statistics measured anew, against averages taken by hand and torch's own helper."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from teddy.models.networks import batchnorm_layers, build_network
from teddy.pool.calibration import recalibrate


def batches(sizes: tuple[int, ...] = (8, 8, 5)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, 3, 16, 16, generator=generator) * 2 + 1 for n in sizes]


def test_one_layer_is_the_average_by_hand() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 256, 2))
    network[0].running_mean.fill_(9.0)
    recalibrate(network, batches())
    means, variances = [], []
    for images in batches():
        columns = images.double().permute(1, 0, 2, 3).reshape(3, -1)
        mean = columns.sum(1) / columns.shape[1]
        means.append(mean)
        variances.append(((columns - mean[:, None]) ** 2).sum(1) / (columns.shape[1] - 1))
    torch.testing.assert_close(network[0].running_mean.double(), sum(means) / 3, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(network[0].running_var.double(), sum(variances) / 3, atol=1e-5, rtol=1e-5)


def test_a_deep_network_is_torchs_own_helper() -> None:
    network = build_network("resnet18_cifar_w8", 4, 3, 16, seed=1)
    network(batches()[0])
    other = copy.deepcopy(network)
    recalibrate(network, batches())
    update_bn(batches(), other)
    for one, two in zip(batchnorm_layers(network), batchnorm_layers(other), strict=True):
        assert one.num_batches_tracked == 3
        torch.testing.assert_close(one.running_mean, two.running_mean)
        torch.testing.assert_close(one.running_var, two.running_var)


def test_only_statistics_change_and_dropout_is_off() -> None:
    network = build_network("mobilenet_v2", 4, 3, 16, seed=1)
    network.features[3].eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    recalibrate(network, batches())
    assert torch.equal(torch.get_rng_state(), state)  # dropout would have drawn from it
    assert [module.training for module in network.modules()] == modes
    assert all(layer.momentum == 0.1 for layer in batchnorm_layers(network))
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    statistics = {key for key in before if key.split(".")[-1] in ("running_mean", "running_var", "num_batches_tracked")}
    assert changed == statistics
    assert all(parameter.grad is None for parameter in network.parameters())
