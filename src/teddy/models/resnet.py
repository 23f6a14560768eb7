"""torchvision's ResNets with the stem for small images, and in other widths."""

from __future__ import annotations

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

LAYOUT: dict[str, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet34": (BasicBlock, [3, 4, 6, 3]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
    "resnet101": (Bottleneck, [3, 4, 23, 3]),
    "resnet152": (Bottleneck, [3, 8, 36, 3]),
}


def build_resnet(name: str, num_classes: int, cifar: bool, width: int) -> ResNet:
    """A freshly initialised ResNet for three channels.

    Args:
        name: a key of ``LAYOUT``.
        cifar: 3x3 stride-1 first convolution and no max-pooling, as for Tiny-ImageNet (Sec. 4.1).
        width: channels of the first stage; torchvision's have 64.
    """
    block, layers = LAYOUT[name]
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
