"""The features of a network: the inputs of its last layers with weights."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from teddy.config.errors import UserError


class FeatureNetwork:
    """A network that also gives the inputs of its last ``depth`` linear or convolutional layers.

    It ends in a linear layer, whose input is called the last features; pooled, if they are a convolution's, over positions.
    """

    def __init__(self, network: nn.Module, depth: int = 1, pooled: bool = False) -> None:
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
        if not any(isinstance(layer, nn.Linear) for layer in layers):
            raise UserError(f"{type(network).__name__} has no linear layer that classifies; choose another model.")
        if depth > len(layers):
            raise UserError(
                f"{type(network).__name__} has {len(layers)} layers with weights, not {depth}; match fewer of them."
            )
        source = layers[-2] if pooled and len(layers) > 1 else None
        self._channels = source.out_channels if isinstance(source, nn.Conv2d) else None
        for index, layer in enumerate(layers[-depth:]):
            layer.register_forward_pre_hook(partial(self._keep, depth - 1 - index))
        self.network = network
        self._features = [torch.empty(0)] * depth

    def __call__(self, images: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Features (N, D) of each layer, from the last one backwards, and logits (N, classes) of images (N, C, H, W)."""
        logits = self.network(images.contiguous(memory_format=torch.channels_last))
        features, self._features = self._features, [torch.empty(0)] * len(self._features)
        if self._channels:
            features[0] = features[0].unflatten(1, (self._channels, -1)).mean(2)
        return features, logits

    def _keep(self, index: int, layer: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        self._features[index] = inputs[0].flatten(1)
