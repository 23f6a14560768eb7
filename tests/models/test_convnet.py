"""ConvNet-D against a closed form of its size and a slow version of its forward pass."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from teddy.models.convnet import ConvNet
from teddy.models.networks import build_network


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def convnet_size(classes: int, channels: int, size: int, depth: int, width: int, affine: bool = True) -> int:
    first = 9 * channels * width + width
    others = (depth - 1) * (9 * width * width + width)
    norms = depth * 2 * width if affine else 0
    side = size // 2**depth
    return first + others + norms + width * side * side * classes + classes


def slow_forward(network: ConvNet, images: torch.Tensor, norm: str) -> torch.Tensor:
    state = network.state_dict()
    out = images
    for block in range(len(network.features) // 4):
        weights = {key.split(".")[-1]: v for key, v in state.items() if key.startswith(f"features.{4 * block + 1}.")}
        out = F.conv2d(out, state[f"features.{4 * block}.weight"], state[f"features.{4 * block}.bias"], padding=1)
        column = (1, -1, 1, 1)
        if norm == "bn":
            mean, var = weights["running_mean"].view(column), weights["running_var"].view(column)
        elif norm == "in":
            mean, var = out.mean((2, 3), keepdim=True), out.var((2, 3), unbiased=False, keepdim=True)
        if norm != "none":
            out = (out - mean) / (var + 1e-5).sqrt() * weights["weight"].view(column) + weights["bias"].view(column)
        out = out.clamp(min=0)
        n, c, h, w = out.shape
        out = out.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))
    return out.reshape(len(out), -1) @ state["classifier.weight"].T + state["classifier.bias"]


def test_the_literatures_network_has_its_size() -> None:
    assert convnet_size(10, 3, 32, depth=3, width=128) == 320_010
    assert count(build_network("convnet3", 10, 3, 32)) == 320_010


@pytest.mark.parametrize(
    ("name", "depth", "width", "affine"),
    [("convnet1_w4", 1, 4, True), ("convnet4_w8_in", 4, 8, True), ("convnet2_none", 2, 128, False)],
)
@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 32)])
def test_name_says_depth_width_and_norm(
    name: str, depth: int, width: int, affine: bool, channels: int, size: int
) -> None:
    network = build_network(name, 7, channels, size)
    assert count(network) == convnet_size(7, channels, size, depth, width, affine)
    assert network(torch.zeros(2, channels, size, size)).shape == (2, 7)


@pytest.mark.parametrize("norm", ["bn", "in", "none"])
def test_forward_is_the_slow_one(norm: str) -> None:
    torch.manual_seed(0)
    network = ConvNet(5, 3, 16, depth=3, width=6, norm=norm).eval()
    with torch.no_grad():
        for tensor in network.state_dict().values():  # running statistics and affine parameters of their own
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) * 0.5 + 0.1)
        images = torch.randn(4, 3, 16, 16)
        torch.testing.assert_close(network(images), slow_forward(network, images, norm), atol=1e-5, rtol=1e-5)


def test_an_odd_side_loses_its_last_row_at_each_pooling() -> None:
    network = build_network("convnet3_w4", 2, 1, 28)  # 28 -> 14 -> 7 -> 3
    assert network.classifier.in_features == 4 * 3 * 3
    assert network(torch.zeros(1, 1, 28, 28)).shape == (1, 2)
