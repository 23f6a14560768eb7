"""The features of a network: the input of its last linear layer."""

from __future__ import annotations

import torch
from torch import nn

from teddy.config.errors import UserError


class FeatureNetwork:
    """A network that also gives the features that its classifier sees.

    Args:
        network: ends in a linear layer.

    Raises:
        UserError: it has no linear layer.
    """

    def __init__(self, network: nn.Module) -> None:
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        if not layers:
            raise UserError(f"{type(network).__name__} has no linear layer that classifies; choose another model.")
        layers[-1].register_forward_pre_hook(self._keep)
        self.network = network
        self._features = torch.empty(0)

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (N, D) and logits (N, classes) of normalised images (N, C, H, W)."""
        logits = self.network(images.contiguous(memory_format=torch.channels_last))
        features, self._features = self._features, torch.empty(0)
        return features, logits

    def _keep(self, layer: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        self._features = inputs[0]
