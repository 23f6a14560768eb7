"""A network from its name: ConvNet-D, ResNets with other stems and widths, any classifier of torchvision.

=====================================  ==========================================================================
``convnet3``, ``convnet4_w64_in``      ConvNet-D; ``_w`` sets the width (128), ``_in`` InstanceNorm, ``_none`` no norm
``resnet18``, ``densenet121``, …       torchvision's network of that name, without pretrained weights
``resnet18_cifar``                     3x3 stride-1 first convolution and no max-pooling, as for Tiny-ImageNet (Sec. 4.1)
``resnet18_cifar_w16``                 the same with 16 instead of 64 channels in the first stage
=====================================  ==========================================================================
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import nn
from torch.func import functional_call

from teddy.config.errors import BadInput
from teddy.models.convnet import ConvNet
from teddy.models.names import CONVNET, RESNET, check_network


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


def batchnorm_layers(network: nn.Module) -> list[nn.BatchNorm2d]:
    """The BatchNorm layers whose running statistics Eq. 7 matches, in the order of the forward pass."""
    return [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]


def _factory(name: str, num_classes: int, channels: int, size: int) -> Callable[[], nn.Module]:
    check_network(name)
    match = CONVNET.fullmatch(name)
    if match:
        depth, width, norm = int(match[1]), int(match[2] or 128), match[3] or "bn"
        return lambda: ConvNet(num_classes, channels, size, depth=depth, width=width, norm=norm)
    # torchvision takes more than a second to import, which a run of ConvNets or one that finds all its work done can do without.
    match = RESNET.fullmatch(name)
    if match:
        from teddy.models.resnet import build_resnet

        return lambda: build_resnet(match[1], num_classes, cifar=bool(match[2]), width=int(match[3] or 64))
    from torchvision import models

    # GoogLeNet and Inception would add auxiliary heads that change the output's type.
    extra = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    return lambda: models.get_model(name, weights=None, num_classes=num_classes, **extra)


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
