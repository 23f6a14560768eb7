"""Pruning against the paper's numbers and Torch-Pruning's own recipe, and a fresh network that knows only what was saved."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import torch_pruning
from torch import nn
from torchvision.models import ResNet18_Weights

from teddy.config.errors import UserError
from teddy.models.networks import build_network
from teddy.models.pruning import prune, replay, size_of

SMALL = [
    ("resnet18_cifar_w16", 10, 3, 32),
    ("resnet50_cifar_w8", 10, 3, 32),
    ("convnet3_w32", 10, 1, 28),
    ("mobilenet_v2", 10, 3, 32),
]


def batchnorm_layers(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]


def example(channels: int, size: int) -> torch.Tensor:
    return torch.zeros(1, channels, size, size)


def resnet18() -> nn.Module:
    return build_network("resnet18", 1000, 3, 224, seed=1)


def test_size_is_torchvisions() -> None:
    macs, parameters = size_of(resnet18(), example(3, 224))
    assert parameters == ResNet18_Weights.IMAGENET1K_V1.meta["num_params"]
    # The published number leaves out BatchNorm, activations and pooling.
    assert macs == pytest.approx(1e9 * ResNet18_Weights.IMAGENET1K_V1.meta["_ops"], rel=0.01)


def test_resnet18_lands_on_the_papers_size() -> None:
    network = resnet18()
    prune(network, example(3, 224), macs=1.2e9, parameters=7.72e6, seed=5)
    stages = [network.layer1, network.layer2, network.layer3, network.layer4]
    assert [block.conv2.out_channels for stage in stages for block in stage] == [51, 51, 103, 103, 207, 207, 414, 414]
    assert [block.conv1.out_channels for stage in stages for block in stage] == [51, 51, 103, 103, 207, 207, 414, 414]
    assert (network.fc.in_features, network.fc.out_features) == (414, 1000)
    macs, parameters = size_of(network, example(3, 224))
    assert macs == pytest.approx(1.2e9, rel=0.01)
    assert parameters == pytest.approx(7.72e6, rel=0.005)
    assert parameters == sum(parameter.numel() for parameter in network.parameters())


def test_it_is_torch_prunings_recipe_bit_for_bit() -> None:
    """What its ImageNet script does with ``--method random``, from the random state of the same seed."""
    theirs, image = build_network("resnet18_cifar_w16", 10, 3, 32), example(3, 32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        pruner = torch_pruning.pruner.MagnitudePruner(
            theirs,
            image,
            importance=torch_pruning.importance.RandomImportance(),
            iterative_steps=100,
            pruning_ratio=1.0,
            ignored_layers=[theirs.fc],
        )
        for _ in range(23):
            pruner.step()
    macs, _ = torch_pruning.utils.count_ops_and_params(theirs, image)
    ours = build_network("resnet18_cifar_w16", 10, 3, 32)
    prune(ours, image, macs=macs, parameters=None, seed=7)
    found, wanted = ours.state_dict(), theirs.state_dict()
    assert list(found) == list(wanted)
    assert all(torch.equal(found[key], value) for key, value in wanted.items())


@pytest.mark.parametrize(("name", "classes", "channels", "size"), SMALL)
def test_small_networks_prune_and_replay(name: str, classes: int, channels: int, size: int) -> None:
    network, image = build_network(name, classes, channels, size, seed=1), example(channels, size)
    whole = size_of(network, image)
    history = prune(network, image, macs=0.7, parameters=0.8, seed=3, step=0.05)
    macs, parameters = size_of(network, image)
    assert 0.5 * whole[0] < macs <= 0.7 * whole[0]
    assert 0.5 * whole[1] < parameters <= 0.8 * whole[1]
    fresh = build_network(name, classes, channels, size, seed=2)
    replay(fresh, image, json.loads(json.dumps(history)))
    fresh.load_state_dict(network.state_dict())
    images = torch.randn(4, channels, size, size)
    with torch.no_grad():
        logits = network.eval()(images)
        assert logits.shape == (4, classes)
        assert torch.equal(fresh.eval()(images), logits)
    fresh.train()(images).square().sum().backward()
    assert all(parameter.grad is not None for parameter in fresh.parameters())


def test_what_is_left_are_channels_of_the_whole_network() -> None:
    network = build_network("convnet2_w8", 3, 1, 8, seed=1)
    first, scale = network.features[0].weight.detach().clone(), torch.arange(8.0)
    network.features[1].running_mean.copy_(scale)
    prune(network, example(1, 8), None, 0.6, seed=4)
    kept = [int(index) for index in network.features[1].running_mean]
    assert 1 < len(kept) < 8
    assert torch.equal(network.features[0].weight, first[kept])
    assert network.features[4].in_channels == len(kept)


def test_the_seed_chooses_the_channels_and_nothing_else_is_touched() -> None:
    def pruned(seed: int) -> tuple[Any, list[torch.Size], tuple[int, int]]:
        network = build_network("convnet3_w32", 10, 1, 28)
        history = prune(network, example(1, 28), 0.66, None, seed)
        return history, [tensor.shape for tensor in network.state_dict().values()], size_of(network, example(1, 28))

    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = pruned(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert pruned(1) == first
    other = pruned(2)
    assert other[0] != first[0]
    assert other[1:] == first[1:]


def test_a_network_without_content_has_the_same_size() -> None:
    real, empty = build_network("resnet18_cifar_w16", 10, 3, 32), build_network("resnet18_cifar_w16", 10, 3, 32)
    prune(real, example(3, 32), 0.66, None, seed=1, step=0.05)
    prune(empty.to("meta"), example(3, 32).to("meta"), 0.66, None, seed=2, step=0.05)
    assert size_of(empty, example(3, 32).to("meta")) == size_of(real, example(3, 32))


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_modes_and_statistics_are_left_as_they_were(frozen: bool, training: bool) -> None:
    network = build_network("resnet18_cifar_w8", 10, 3, 32).train(training).requires_grad_(not frozen)
    history = prune(network, example(3, 32), 0.66, None, seed=1, step=0.1)
    fresh = build_network("resnet18_cifar_w8", 10, 3, 32).train(training).requires_grad_(not frozen)
    replay(fresh, example(3, 32), history)
    for one in (network, fresh):
        assert all(module.training == training for module in one.modules())
        assert all(parameter.requires_grad != frozen for parameter in one.parameters())
        assert all(layer.num_batches_tracked == 0 for layer in batchnorm_layers(one))


@pytest.mark.parametrize("step", [0.01, 0.1])
def test_a_step_is_a_share_of_the_channels(step: float) -> None:
    network = build_network("convnet2_w100", 3, 1, 8)
    prune(network, example(1, 8), None, 0.9999, seed=1, step=step)
    assert network.features[0].out_channels == round(100 * (1 - step))


@pytest.mark.parametrize(("macs", "parameters"), [(1e-4, None), (None, 100), (10.0, 0.5)])
def test_a_target_out_of_reach_says_what_is_in_reach(macs: float | None, parameters: float | None) -> None:
    network = build_network("convnet3_w32", 10, 1, 28)
    with pytest.raises(
        UserError, match=r"cannot bring this ConvNet below .* MACs and .* parameters; raise pool\.strategy"
    ) as caught:
        prune(network, example(1, 28), macs, parameters, seed=1, step=0.05)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("macs", "parameters"), [(1.2e9, None), (1.0, 1.0), (1.2e9, 7.72e6)])
def test_a_target_that_is_met_already_is_refused(macs: float | None, parameters: float | None) -> None:
    """Every member would be the same network: ImageNet's targets on a small network."""
    with pytest.raises(
        UserError, match=r"nothing to prune, since the network has .* already; lower pool\.strategy\.macs"
    ):
        prune(build_network("convnet3_w32", 10, 1, 28), example(1, 28), macs, parameters, seed=1)


@pytest.mark.parametrize(
    ("name", "size", "why"),
    [
        ("vit_b_16", 224, r"parameters outside of plain layers \(class_token\)"),
        ("swin_t", 64, r"parameters outside of plain layers \(features.*relative_position_bias_table\)"),
        ("shufflenet_v2_x1_0", 64, r"cannot be pruned \("),
    ],
)
def test_a_network_that_cannot_be_pruned_is_refused(name: str, size: int, why: str) -> None:
    network = build_network(name, 10, 3, size).to("meta")
    with pytest.raises(UserError, match=f"{why}.*choose another network") as caught:
        prune(network, example(3, size).to("meta"), 0.66, None, seed=1)
    assert "\n" not in str(caught.value)
