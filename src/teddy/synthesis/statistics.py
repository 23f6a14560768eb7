"""What a teacher remembers of the real data (BatchNorm's running statistics) and what it sees of a block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from teddy.config.errors import BadInput

PART = 1 << 15
"""Values of a channel that are summed at a time: more of them lose digits in float32."""


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


class _MatchedNorm(torch.autograd.Function):
    """BatchNorm in eval mode that also gives the statistics of its input, with the backward pass of both in one.

    With autograd's own ``var_mean`` the statistics cost more than the convolutions around them: several passes each way over a
    float32 copy, and one more to add the two gradients. Here the statistics are one call of the kernel that training uses, and
    backward uses ``d y/dx = s``, ``d mean/dx = 1/M`` and ``d var/dx = 2 (x - mean) / M``, so that the gradient is
    ``s * dy + scale * x + shift`` with one ``scale`` and one ``shift`` per channel: two passes.
    """

    @staticmethod
    def forward(
        ctx: Any,
        images: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        running_mean: torch.Tensor,
        running_var: torch.Tensor,
        eps: float,
        slope: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mean, var = _moments(images, running_mean)
        outputs = F.batch_norm(images, running_mean, running_var, weight, bias, training=False, eps=eps)
        ctx.save_for_backward(images, mean, slope)
        return outputs, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        to_outputs, to_mean, to_var = gradients
        images, mean, slope = ctx.saved_tensors
        count = images.numel() // images.shape[1]
        scale = to_var * (2 / count)
        shift = to_mean / count - scale * mean
        scale, shift, slope = (values.to(images.dtype).view(1, -1, 1, 1) for values in (scale, shift, slope))
        gradient = torch.addcmul(shift, images, scale).addcmul_(to_outputs, slope)
        return gradient, None, None, None, None, None, None


def _moments(images: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and biased variance of each channel, (C,), in the precision of ``like``.

    The kernel adds value by value, so large layers are measured in parts, whose moments are put together.
    """
    # The buffers that the kernel would update are there for its precision only: half-precision sums would lose the difference
    # that is to be matched.
    spare = torch.zeros_like(like), torch.ones_like(like)
    parts = images.split(max(1, PART // images[0, 0].numel()))
    moments = [torch.batch_norm_update_stats(part, *spare, 0.0) for part in parts]
    if len(moments) == 1:
        return moments[0]
    shares = torch.tensor([len(part) / len(images) for part in parts], dtype=like.dtype, device=like.device).view(-1, 1)
    means, variances = (torch.stack(values) for values in zip(*moments, strict=True))
    mean = (shares * means).sum(0)
    return mean, (shares * (variances + (means - mean).square())).sum(0)


class MatchedNorm(nn.Module):
    """Takes the place of a frozen BatchNorm layer: the same output, and the statistics of its input for Eq. 7.

    Args:
        layer: in eval mode, with running statistics.
        note: receives the statistics in each forward pass.
    """

    def __init__(self, layer: nn.BatchNorm2d, note: Callable[[LayerStatistics], None]) -> None:
        super().__init__()
        self.layer, self.note = layer, note
        assert layer.running_mean is not None and layer.running_var is not None
        weight = torch.ones_like(layer.running_var) if layer.weight is None else layer.weight.detach()
        self.slope = weight / (layer.running_var + layer.eps).sqrt()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalises (N, C, H, W) by the running statistics."""
        layer = self.layer
        mean, var = layer.running_mean, layer.running_var
        outputs, *own = _MatchedNorm.apply(images, layer.weight, layer.bias, mean, var, layer.eps, self.slope)
        self.note(LayerStatistics(own[0], own[1], mean, var))  # type: ignore[arg-type]
        return outputs


class MatchedTeacher:
    """A frozen teacher that also gives the statistics of its BatchNorm layers' inputs.

    Args:
        network: in eval mode, parameters frozen; its BatchNorm layers are replaced by ones that measure.

    Raises:
        BadInput: the network has no BatchNorm layer, so Eq. 7 has nothing to match.
    """

    def __init__(self, network: nn.Module) -> None:
        if network.training or any(parameter.requires_grad for parameter in network.parameters()):
            raise ValueError("a teacher must be in eval mode with frozen parameters")
        self._seen: list[LayerStatistics] = []
        places = [
            (parent, name, layer)
            for parent in network.modules()
            for name, layer in parent.named_children()
            if isinstance(layer, nn.BatchNorm2d)
        ]
        if not places:
            raise BadInput(
                "the pool's network has no BatchNorm layer to match; choose one that has, such as model=convnet3."
            )
        for parent, name, layer in places:
            setattr(parent, name, MatchedNorm(layer, self._note))
        self.network = network

    def _note(self, statistics: LayerStatistics) -> None:
        self._seen.append(statistics)

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, list[LayerStatistics]]:
        """Logits (N, classes) for normalised images (N, C, H, W), and the statistics in the order of the forward pass."""
        self._seen = []
        logits = self.network(images)
        seen, self._seen = self._seen, []
        return logits, seen
