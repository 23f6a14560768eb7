"""ConvNet-D, the small network of the dataset-distillation literature (Gidaris & Komodakis 2018; Table 5)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "bn": nn.BatchNorm2d,
    "in": lambda channels: nn.InstanceNorm2d(channels, affine=True),
    "none": lambda channels: nn.Identity(),
}


class ConvNet(nn.Module):
    """``depth`` blocks of 3x3 convolution, normalisation, ReLU and 2x2 average pooling, then one linear layer.

    A pool's network needs ``bn`` and its statistics; the DC family's evaluation has ``in``.
    """

    def __init__(
        self, num_classes: int, channels: int, size: int, depth: int = 3, width: int = 128, norm: str = "bn"
    ) -> None:
        super().__init__()
        side = size >> depth
        if side < 1:
            raise ValueError(f"a ConvNet of depth {depth} needs images of at least {1 << depth} pixels, not {size}")
        layers: list[nn.Module] = []
        for index in range(depth):
            layers += [
                nn.Conv2d(width if index else channels, width, kernel_size=3, padding=1),
                NORMS[norm](width),
                nn.ReLU(inplace=True),
                nn.AvgPool2d(2),
            ]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * side * side, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images).flatten(1))
