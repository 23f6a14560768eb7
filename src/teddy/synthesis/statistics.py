"""What a teacher remembers of the real data (BatchNorm's running statistics) and what it sees of a block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from teddy.config.errors import BadInput
from teddy.models.networks import batchnorm_layers


@dataclass(frozen=True)
class LayerStatistics:
    """Statistics of one BatchNorm layer's input over (N, H, W), each (C,), float32; the variance is the biased one.

    Attributes:
        mean: of the block, with a graph back to its pixels.
        var: of the block, with a graph back to its pixels.
        running_mean: RM of Eq. 7, of the real data.
        running_var: RV of Eq. 7.
    """

    mean: torch.Tensor
    var: torch.Tensor
    running_mean: torch.Tensor
    running_var: torch.Tensor


class MatchedTeacher:
    """A frozen teacher that also gives the statistics of its BatchNorm layers' inputs.

    Args:
        network: in eval mode, parameters frozen.

    Raises:
        BadInput: the network has no BatchNorm layer, so Eq. 7 has nothing to match.
    """

    def __init__(self, network: nn.Module) -> None:
        layers = batchnorm_layers(network)
        if not layers:
            raise BadInput(
                "the pool's network has no BatchNorm layer to match; choose one that has, such as model=convnet3."
            )
        if network.training or any(parameter.requires_grad for parameter in network.parameters()):
            raise ValueError("a teacher must be in eval mode with frozen parameters")
        self.network = network
        self._seen: list[LayerStatistics] = []
        for layer in layers:
            layer.register_forward_pre_hook(self._note)

    def _note(self, layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None
        # Half-precision sums over a whole block would lose the difference that is to be matched.
        dtype = torch.promote_types(inputs[0].dtype, torch.float32)
        var, mean = torch.var_mean(inputs[0].to(dtype), dim=(0, 2, 3), correction=0)
        self._seen.append(LayerStatistics(mean, var, layer.running_mean, layer.running_var))

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, list[LayerStatistics]]:
        """Logits (N, classes) for normalised images (N, C, H, W), and the statistics in the order of the forward pass."""
        self._seen = []
        logits = self.network(images)
        seen, self._seen = self._seen, []
        return logits, seen
