"""Networks by name: ConvNet-D, ResNets, any classifier of torchvision, and those of a user's own package.

=====================================  ==========================================================================
``convnet3``, ``convnet4_w64_in``      ConvNet-D; ``_w`` sets the width (128), ``_in`` InstanceNorm, ``_none`` no norm
``resnet18``, ``densenet121``, …       torchvision's network of that name, without pretrained weights
``resnet18_cifar``                     3x3 stride-1 first convolution and no max-pooling, as for Tiny-ImageNet (Sec. 4.1)
``resnet18_cifar_w16``                 the same with 16 instead of 64 channels in the first stage
any other name                         what a package has given to ``register_network``
=====================================  ==========================================================================

torchvision takes more than a second to import, so it is imported only for its own networks.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from teddy.config.errors import UserError
from teddy.data.spec import DatasetSpec
from teddy.models.convnet import ConvNet
from teddy.runtime.seeding import Key, stable_seed

Factory = Callable[[int, int, int], nn.Module]  # of the number of classes, and the channels and size of images

_CONVNET = re.compile(r"convnet([1-9]\d*)(?:_w([1-9]\d*))?(?:_(bn|in|none))?")
_RESNET = re.compile(r"(resnet(?:18|34|50|101|152))(_cifar)?(?:_w([1-9]\d*))?")
_registered: dict[str, tuple[Factory, bool]] = {}


def register_network(name: str, factory: Factory, *, classifier: bool = True) -> None:
    """Make a network of a user's own package available by name; the package calls this when it is imported.

    ``factory(num_classes, channels, size)`` returns a freshly initialised network that maps images (N, channels, size, size) to
    logits (N, num_classes), or if it is no classifier, to anything. torch's global random state has been seeded. The name is all
    that fingerprints contain of the network, so a changed network needs a new name.
    """
    known = _registered.get(name, (factory, classifier))
    if known != (factory, classifier) or _is_own(name) or name in _torchvision_names():
        raise UserError(f"there is a network {name!r} already; register yours under another name.")
    _registered[name] = factory, classifier


def check_network(name: str) -> None:
    """Raise UserError if no network has this name; nothing is built."""
    if _is_own(name) or name in _registered or name in (known := _torchvision_names()):
        return
    close = difflib.get_close_matches(name, [*_registered, *known, "convnet3", "resnet18_cifar"], n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise UserError(
        f"there is no network {name!r}{hint}; use convnet<depth>, resnet<layers>_cifar, a torchvision classifier or a "
        "registered network."
    )


def build_network(name: str, num_classes: int, channels: int, size: int, seed: int = 0) -> nn.Module:
    """Build a freshly initialised network; UserError if none has this name (the table above) or it does not fit the images.

    The seed is that of the initialisation; torch's global random state is left as it was.
    """
    check_network(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = _build(name, num_classes, channels, size)
            if _registered.get(name, (None, True))[1]:
                _try_out(network, num_classes, channels, size)
        except (ValueError, TypeError, RuntimeError, AssertionError) as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            raise UserError(
                f"network {name!r} cannot be used on {channels}x{size}x{size} images: {reason}; choose another one."
            ) from error
    return network.to(memory_format=torch.channels_last)


def random_network(name: str, spec: DatasetSpec, *keys: Key) -> nn.Module:
    """An untrained network for images of a dataset, the same for the same keys."""
    seed = stable_seed("random network", *keys)
    return build_network(name, spec.num_classes, spec.channels, spec.size, seed)


def refuse_batchnorm(name: str, spec: DatasetSpec) -> None:
    """Raise UserError if a network does not fit a dataset, or has BatchNorm, which batches of a single class rule out."""
    if any(isinstance(layer, _BatchNorm) for layer in random_network(name, spec).modules()):
        raise UserError(
            f"network {name!r} has BatchNorm, which takes from a batch of one class what tells it from the others; set the "
            "method's key network to one with InstanceNorm, such as convnet3_in."
        )


def _is_own(name: str) -> bool:
    return bool(_CONVNET.fullmatch(name) or _RESNET.fullmatch(name))


def _torchvision_names() -> list[str]:
    from torchvision import models

    names: list[str] = models.list_models(module=models)  # without those of its subpackages: detection, video, …
    return names


def _build(name: str, num_classes: int, channels: int, size: int) -> nn.Module:
    if name in _registered:
        return _registered[name][0](num_classes, channels, size)
    if match := _CONVNET.fullmatch(name):
        depth, width, norm = int(match[1]), int(match[2] or 128), match[3] or "bn"
        return ConvNet(num_classes, channels, size, depth=depth, width=width, norm=norm)
    if match := _RESNET.fullmatch(name):
        from teddy.models.resnet import build_resnet

        network: nn.Module = build_resnet(match[1], num_classes, cifar=bool(match[2]), width=int(match[3] or 64))
    else:
        from torchvision import models

        # GoogLeNet and Inception would add auxiliary heads that change the output's type.
        extra = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
        network = models.get_model(name, weights=None, num_classes=num_classes, **extra)
    if channels != 3:
        _replace_first_convolution(network, channels)
    return network


def _try_out(network: nn.Module, num_classes: int, channels: int, size: int) -> None:
    """Run the network on an image without content, which costs nothing, to find out whether it fits the images."""
    state = itertools.chain(network.named_parameters(), network.named_buffers())
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in state}
    network.eval()
    with torch.no_grad():
        logits = functional_call(network, shapes, torch.empty(1, channels, size, size, device="meta"))
    if logits.shape != (1, num_classes):
        raise ValueError(f"its output for one image has the shape {tuple(logits.shape)}, not (1, {num_classes})")
    network.train()


def _replace_first_convolution(network: nn.Module, channels: int) -> None:
    for parent in network.modules():
        for key, layer in parent.named_children():
            if isinstance(layer, nn.Conv2d) and layer.in_channels == 3:
                biased, window = layer.bias is not None, layer.kernel_size
                fresh = nn.Conv2d(channels, layer.out_channels, window, layer.stride, layer.padding, bias=biased)  # type: ignore[arg-type]
                nn.init.kaiming_normal_(fresh.weight, mode="fan_out", nonlinearity="relu")
                setattr(parent, key, fresh)
                return
    raise ValueError("it has no convolution with three input channels to adapt")
