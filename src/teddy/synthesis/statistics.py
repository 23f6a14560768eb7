"""What a teacher remembers of the real data (BatchNorm's running statistics) and what it sees of a block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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


class _Moments(torch.autograd.Function):
    """Mean and biased variance over (N, H, W) of (N, C, H, W), with a backward pass of one fused multiply-add.

    Autograd's own ``var_mean`` costs more than the convolutions around it: several passes each way over a float32 copy. Here
    forward sums a single copy, and backward uses ``d mean/dx = 1/M`` and ``d var/dx = 2 (x - mean) / M``, so that the gradient
    is ``scale * x + shift`` with one scale and one shift per channel.
    """

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # Half-precision sums over a whole block would lose the difference that is to be matched.
        dtype = torch.promote_types(images.dtype, torch.float32)
        # No copy in the channels-last format; a copy of its own otherwise.
        values = images.movedim(1, -1).flatten(0, -2).to(dtype, copy=True)
        mean = values.mean(0)
        var = values.sub_(mean).square_().mean(0)
        ctx.save_for_backward(images, mean)
        return mean, var

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        to_mean, to_var = gradients
        images, mean = ctx.saved_tensors
        count = images.numel() // images.shape[1]
        scale = to_var * (2 / count)
        shift = to_mean / count - scale * mean
        scale, shift = (values.to(images.dtype).view(1, -1, 1, 1) for values in (scale, shift))
        return torch.addcmul(shift, images, scale)


def moments(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and biased variance of each channel of (N, C, H, W), each (C,), float32 or better; differentiable once."""
    return _Moments.apply(images)


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
        mean, var = moments(inputs[0])
        self._seen.append(LayerStatistics(mean, var, layer.running_mean, layer.running_var))

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, list[LayerStatistics]]:
        """Logits (N, classes) for normalised images (N, C, H, W), and the statistics in the order of the forward pass."""
        self._seen = []
        logits = self.network(images)
        seen, self._seen = self._seen, []
        return logits, seen
