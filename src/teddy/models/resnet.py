"""torchvision's ResNets with the stem for small images, and in other widths."""

from __future__ import annotations

from torch import nn
from torchvision import models
from torchvision.models.resnet import ResNet


def build_resnet(name: str, num_classes: int, cifar: bool, width: int) -> ResNet:
    """Build a freshly initialised ResNet of torchvision's for three channels, with ``width`` of them in its first stage.

    With ``cifar`` it has a 3x3 stride-1 first convolution and no max-pooling, as for Tiny-ImageNet (Sec. 4.1).
    """
    network: ResNet = models.get_model(name, weights=None, num_classes=num_classes)
    if width != 64:
        _scale(network, width)
    if cifar:
        network.conv1 = nn.Conv2d(3, width, kernel_size=3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        network.maxpool = nn.Identity()
    return network


def _scale(network: ResNet, width: int) -> None:
    """Replace the layers of a ResNet by fresh ones with widths that grow from ``width`` instead of 64."""
    block = type(network.layer1[0])
    network.inplanes = width
    network.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
    network.bn1 = nn.BatchNorm2d(width)
    for stage, name in enumerate(("layer1", "layer2", "layer3", "layer4")):
        blocks = len(getattr(network, name))
        setattr(network, name, network._make_layer(block, width << stage, blocks, stride=2 if stage else 1))
    network.fc = nn.Linear(8 * width * block.expansion, network.fc.out_features)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
