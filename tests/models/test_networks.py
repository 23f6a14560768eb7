"""Networks by name, against torchvision's own and closed forms."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from teddy.config.errors import UserError
from teddy.models import networks
from teddy.models.networks import build_network, check_network, register_network

PAPER = ["resnet18", "resnet50", "resnet101", "densenet121", "mobilenet_v2", "shufflenet_v2_x1_0", "efficientnet_b0"]


def batchnorm_layers(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def torchvision_with_small_stem(classes: int) -> nn.Module:
    network = torchvision.models.resnet18(num_classes=classes)
    network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    network.maxpool = nn.Sequential()
    return network


def resnet18_size(width: int, stem: int, classes: int, channels: int = 3) -> int:
    """Parameters of a ResNet-18 by hand: stem, eight blocks of two 3x3 convolutions, three shortcuts, one linear layer."""
    total = stem * stem * channels * width + 2 * width
    before = width
    for stage in range(4):
        here = width * 2**stage
        for block in range(2):
            total += 9 * before * here + 2 * here + 9 * here * here + 2 * here
            if stage > 0 and block == 0:
                total += before * here + 2 * here
            before = here
    return total + before * classes + classes


def test_resnet18_is_torchvisions() -> None:
    network = build_network("resnet18", 1000, 3, 224)
    assert count(network) == 11_689_512 == resnet18_size(64, 7, 1000)
    torchvision.models.resnet18(num_classes=1000).load_state_dict(network.state_dict())


def test_cifar_stem_is_torchvisions_with_another_first_convolution() -> None:
    ours = build_network("resnet18_cifar", 10, 3, 32).eval()
    theirs = torchvision_with_small_stem(10).eval()
    assert count(ours) == count(theirs) == resnet18_size(64, 3, 10)
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), atol=1e-4, rtol=1e-4)
        assert ours.layer1(ours.maxpool(ours.conv1(images))).shape == (1, 64, 32, 32)


@pytest.mark.parametrize("name", ["resnet18_w8", "resnet18_cifar_w16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_width_scales_every_stage(name: str, channels: int) -> None:
    network = build_network(name, 5, channels, 32)
    assert count(network) == resnet18_size(int(name.split("_w")[1]), 3 if "cifar" in name else 7, 5, channels)
    assert network(torch.randn(2, channels, 32, 32)).shape == (2, 5)


def test_narrow_bottlenecks_keep_their_expansion() -> None:
    network = build_network("resnet50_cifar_w4", 3, 3, 16)
    assert network.fc.in_features == 4 * 8 * 4
    assert network(torch.randn(2, 3, 16, 16)).shape == (2, 3)


@pytest.mark.parametrize("name", PAPER)
def test_output_shapes(name: str) -> None:
    """Without content, so that the large ones cost nothing."""
    for channels, size in (
        ((3, 32), (1, 32), (1, 64), (3, 224)) if name == "densenet121" else ((1, 28), (3, 64), (3, 224))
    ):
        with torch.device("meta"):
            network = build_network(name, 11, channels, size)
        assert network(torch.empty(2, channels, size, size, device="meta")).shape == (2, 11)


@pytest.mark.parametrize("name", [*PAPER, "convnet3"])
def test_real_images_give_finite_logits_and_gradients(name: str) -> None:
    network = build_network(name, 4, 1, 32)
    logits = network(torch.randn(2, 1, 32, 32))
    assert logits.shape == (2, 4)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert torch.isfinite(logits).all()


def test_other_channels_change_the_first_convolution_only() -> None:
    grey, colour = (build_network("mobilenet_v2", 4, channels, 32) for channels in (1, 3))
    shapes = [{key: value.shape for key, value in network.state_dict().items()} for network in (grey, colour)]
    assert {key for key in shapes[1] if shapes[0][key] != shapes[1][key]} == {"features.0.0.weight"}
    assert shapes[0]["features.0.0.weight"] == (32, 1, 3, 3)


@pytest.mark.parametrize(
    ("name", "channels"), [("convnet3_w8", 3), ("resnet18_cifar_w8", 3), ("resnet18", 1), ("shufflenet_v2_x1_0", 1)]
)
def test_the_seed_names_the_weights_and_nothing_else_is_touched(name: str, channels: int) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = build_network(name, 4, channels, 32, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)  # another surrounding state
    again = build_network(name, 4, channels, 32, seed=1).state_dict()
    other = build_network(name, 4, channels, 32, seed=2).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    drawn = [key for key in first if key.endswith("weight") and first[key].dim() > 1]
    assert all(not torch.equal(first[key], other[key]) for key in drawn)


def test_a_fresh_network_is_untried() -> None:
    """Finding out whether it fits the images must leave neither statistics nor modes behind."""
    network = build_network("resnet18_cifar_w8", 4, 3, 32)
    assert all(module.training for module in network.modules())
    for layer in batchnorm_layers(network):
        assert layer.num_batches_tracked == 0
        assert layer.running_mean.count_nonzero() == 0
        assert layer.running_mean.device.type == "cpu"


@pytest.mark.parametrize("name", ["resnet18", "resnet50_cifar_w8", "convnet3_w8", "densenet121", "efficientnet_b0"])
def test_batchnorm_layers_come_in_the_order_of_execution(name: str) -> None:
    network = build_network(name, 3, 3, 32).eval()
    called: list[nn.Module] = []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda layer, inputs, output: called.append(layer))
    with torch.no_grad():
        network(torch.randn(1, 3, 32, 32))
    found = batchnorm_layers(network)
    assert [id(layer) for layer in found] == [id(layer) for layer in called]
    assert len(found) == len(set(found)) > 2


def test_instance_norm_has_no_statistics_to_match() -> None:
    assert batchnorm_layers(build_network("convnet3_w4_in", 3, 3, 32)) == []


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("resnet81", "resnet18"), ("resnet18_cifr", "resnet18_cifar"), ("convnet", "convn"), ("convnet3_", "convnet3")],
)
def test_an_unknown_name_is_refused_with_a_suggestion(typo: str, meant: str) -> None:
    for attempt in (lambda: check_network(typo), lambda: build_network(typo, 10, 3, 32)):
        with pytest.raises(UserError, match=f"there is no network '{typo}' .did you mean '{meant}"):
            attempt()


@pytest.mark.parametrize("name", ["convnet0", "convnet3_w0", "resnet18_w0", "resnet19_cifar", "xyzzy", ""])
def test_a_name_without_a_network_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"there is no network '{name}'"):
        check_network(name)


@pytest.mark.parametrize("name", ["convnet3_w32", "resnet18_cifar_w16", "resnet152", "vgg11_bn", "swin_t"])
def test_check_knows_every_network_and_builds_none(name: str) -> None:
    check_network(name)


def test_check_knows_torchvisions_classifiers_and_no_networks_of_other_tasks() -> None:
    classifiers = torchvision.models.list_models(module=torchvision.models)
    for name in classifiers:
        check_network(name)
    for name in set(torchvision.models.list_models()) - set(classifiers):
        with pytest.raises(UserError, match="there is no network"):
            check_network(name)


@pytest.mark.parametrize(("name", "size"), [("convnet6", 32), ("densenet121", 28), ("alexnet", 32), ("vit_b_32", 64)])
def test_a_network_that_does_not_fit_the_images_is_refused(name: str, size: int) -> None:
    """By construction (ConvNet) or because its forward pass would fail, which would be found out in mid-run."""
    with torch.device("meta"), pytest.raises(UserError, match=f"'{name}' cannot be used on 3x{size}x{size} images"):
        build_network(name, 10, 3, size)


class Linear(nn.Module):
    """A network of a user's own."""

    def __init__(self, num_classes: int, channels: int, size: int) -> None:
        super().__init__()
        self.layer = nn.Linear(channels * size * size, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.flatten(1))


@pytest.fixture
def registry(monkeypatch) -> dict:
    monkeypatch.setattr(networks, "_registered", {})
    return networks._registered


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_registered_network_is_built_like_all_others(registry, channels: int) -> None:
    register_network("my_linear", Linear)
    check_network("my_linear")
    first, again, other = (build_network("my_linear", 4, channels, 8, seed=seed) for seed in (1, 1, 2))
    assert isinstance(first, Linear)
    assert torch.equal(first.layer.weight, again.layer.weight)
    assert not torch.equal(first.layer.weight, other.layer.weight)
    with pytest.raises(UserError, match="did you mean 'my_linear'"):
        check_network("mylinear")


@pytest.mark.parametrize("name", ["convnet3", "resnet18_cifar_w16", "vgg11", "taken"])
def test_a_name_is_registered_once(registry, name: str) -> None:
    register_network("taken", Linear)
    register_network("taken", Linear)
    with pytest.raises(UserError, match=f"there is a network '{name}' already"):
        register_network(name, lambda *facts: Linear(*facts))


def test_a_registered_network_without_logits_is_refused(registry) -> None:
    register_network("features", lambda num_classes, channels, size: nn.Flatten())
    with pytest.raises(UserError, match=r"'features' cannot be used.*shape \(1, 192\), not \(1, 10\)"):
        build_network("features", 10, 3, 8)
    register_network("boxes", lambda num_classes, channels, size: nn.Flatten(), classifier=False)
    assert isinstance(build_network("boxes", 10, 3, 8), nn.Flatten)
