"""A network from its name: ConvNet-D, ResNets with other stems and widths, any classifier of torchvision.

=====================================  ==========================================================================
``convnet3``, ``convnet4_w64_in``      ConvNet-D; ``_w`` sets the width (128), ``_in`` InstanceNorm, ``_none`` no norm
``resnet18``, ``densenet121``, …       torchvision's network of that name, without pretrained weights
``resnet18_cifar``                     3x3 stride-1 first convolution and no max-pooling, as for Tiny-ImageNet (Sec. 4.1)
``resnet18_cifar_w16``                 the same with 16 instead of 64 channels in the first stage
=====================================  ==========================================================================
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable

import torch
from torch import nn
from torch.func import functional_call
from torchvision import models
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from teddy.config.errors import BadInput
from teddy.models.convnet import ConvNet

_CONVNET = re.compile(r"convnet([1-9]\d*)(?:_w([1-9]\d*))?(?:_(bn|in|none))?")
_RESNET = re.compile(r"(resnet\d+)(_cifar)?(?:_w([1-9]\d*))?")
_RESNET_LAYOUT: dict[str, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet34": (BasicBlock, [3, 4, 6, 3]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
    "resnet101": (Bottleneck, [3, 4, 23, 3]),
    "resnet152": (Bottleneck, [3, 8, 36, 3]),
}


def build_network(name: str, num_classes: int, channels: int, size: int, seed: int = 0) -> nn.Module:
    """A freshly initialised network.

    Args:
        name: see the table at the top of this file.
        channels: of the images; 1 or 3 work everywhere.
        size: height and width of the images in pixels.
        seed: of the initialisation; the surrounding random state is left as it was.

    Raises:
        BadInput: no network has this name, or it does not fit the images.
    """
    factory = _factory(name, num_classes, channels, size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = factory()
            if channels != 3 and not isinstance(network, ConvNet):
                _replace_first_convolution(network, channels)
            _try_out(network, channels, size)
        except (ValueError, TypeError, RuntimeError, AssertionError) as error:
            why = str(error).partition("\n")[0].rstrip(".")
            raise BadInput(
                f"network {name!r} cannot be used on {channels}x{size}x{size} images: {why}; choose another one."
            ) from error
    return network.to(memory_format=torch.channels_last)


def check_network(name: str) -> None:
    """Raises BadInput when no network has this name; builds nothing."""
    _factory(name, 2, 3, 1 << 10)


def batchnorm_layers(network: nn.Module) -> list[nn.BatchNorm2d]:
    """The BatchNorm layers whose running statistics Eq. 7 matches, in the order of the forward pass."""
    return [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]


def _factory(name: str, num_classes: int, channels: int, size: int) -> Callable[[], nn.Module]:
    match = _CONVNET.fullmatch(name)
    if match:
        depth, width, norm = int(match[1]), int(match[2] or 128), match[3] or "bn"
        return lambda: ConvNet(num_classes, channels, size, depth=depth, width=width, norm=norm)
    match = _RESNET.fullmatch(name)
    if match and match[1] in _RESNET_LAYOUT:
        return lambda: _resnet(match[1], num_classes, cifar=bool(match[2]), width=int(match[3] or 64))
    known = models.list_models(module=models)
    if name in known:
        # GoogLeNet and Inception would add auxiliary heads that change the output's type.
        extra = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
        return lambda: models.get_model(name, weights=None, num_classes=num_classes, **extra)
    close = difflib.get_close_matches(name, [*known, *_RESNET_LAYOUT, "convnet3", "resnet18_cifar"], n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise BadInput(
        f"there is no network {name!r}{hint}; use convnet<depth>, resnet<layers>_cifar or a torchvision classifier."
    )


def _resnet(name: str, num_classes: int, cifar: bool, width: int) -> ResNet:
    block, layers = _RESNET_LAYOUT[name]
    wide = width == 64
    network = ResNet(block, layers, num_classes) if wide else _NarrowResNet(block, layers, num_classes, width)
    if cifar:
        network.conv1 = nn.Conv2d(3, width, kernel_size=3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        network.maxpool = nn.Identity()
    return network


class _NarrowResNet(ResNet):
    """torchvision's ResNet with another base width: all stages scale with it."""

    def __init__(self, block: type[BasicBlock | Bottleneck], layers: list[int], num_classes: int, width: int) -> None:
        super().__init__(block, layers, num_classes=num_classes)
        self.inplanes = width
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = self._make_layer(block, width, layers[0])
        self.layer2 = self._make_layer(block, width * 2, layers[1], stride=2)
        self.layer3 = self._make_layer(block, width * 4, layers[2], stride=2)
        self.layer4 = self._make_layer(block, width * 8, layers[3], stride=2)
        self.fc = nn.Linear(width * 8 * block.expansion, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _try_out(network: nn.Module, channels: int, size: int) -> None:
    """Sends one image without content through the network, so that too small a one is found out now, at no cost."""
    state = itertools.chain(network.named_parameters(), network.named_buffers())
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in state}
    network.eval()
    with torch.no_grad():
        functional_call(network, shapes, torch.empty(1, channels, size, size, device="meta"))
    network.train()


def _replace_first_convolution(network: nn.Module, channels: int) -> None:
    """Gives the first convolution as many input channels as the images have."""
    for parent in network.modules():
        for key, layer in parent.named_children():
            if isinstance(layer, nn.Conv2d) and layer.in_channels == 3:
                fresh = nn.Conv2d(
                    channels,
                    layer.out_channels,
                    layer.kernel_size,  # type: ignore[arg-type]
                    layer.stride,  # type: ignore[arg-type]
                    layer.padding,  # type: ignore[arg-type]
                    bias=layer.bias is not None,
                )
                nn.init.kaiming_normal_(fresh.weight, mode="fan_out", nonlinearity="relu")
                setattr(parent, key, fresh)
                return
    raise ValueError("it has no convolution with three input channels to adapt")
