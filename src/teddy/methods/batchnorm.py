"""BatchNorm with statistics: a frozen layer that also measures its input, for the BatchNorm term of Eq. 7."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from teddy.config.errors import UserError

PART = 1 << 15  # values of a channel that a CPU sums at a time: more of them lose digits in float32
EPS = 1e-30  # lost beside 1


@dataclass(frozen=True)
class LayerStatistics:
    """Mean and biased variance of one BatchNorm layer's input over (N, H, W), in float32.

    Those of each block, (blocks, C), have a graph back to its pixels; RM and RV of Eq. 7, (C,), are those of the real data.
    """

    mean: torch.Tensor
    var: torch.Tensor
    running_mean: torch.Tensor
    running_var: torch.Tensor


class _NormWithStatistics(torch.autograd.Function):
    """BatchNorm in eval mode that also gives the statistics of its input, with the backward pass of both in one.

    With autograd's own ``var_mean`` the statistics cost more than the convolutions around them: several passes each way over a
    float32 copy, and one more to add the two gradients. Here the statistics are one call of the kernel that training uses, and
    backward uses ``d y/dx = s``, ``d mean/dx = 1/M`` and ``d var/dx = 2 (x - mean) / M``, so that the gradient is
    ``s * dy + scale * x + shift`` with one ``scale`` and one ``shift`` per channel: two passes.
    """

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, norm: BatchNormWithStatistics, blocks: int) -> tuple[torch.Tensor, ...]:
        moments = [_moments(part, norm.zero, norm.one) for part in images.chunk(blocks)]
        mean, var = (torch.stack(values) for values in zip(*moments, strict=True))
        ctx.save_for_backward(images, mean)
        ctx.norm = norm
        return norm.layer(images), mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        to_outputs, to_mean, to_var = gradients
        images, mean = ctx.saved_tensors
        norm: BatchNormWithStatistics = ctx.norm
        count = images.numel() // mean.numel()
        scale = to_var * (2 / count)
        shift = torch.addcmul(to_mean / count, scale, mean, value=-1)
        # scale * images + shift: BatchNorm of zero mean and unit variance, whose kernel is faster than broadcasting. EPS
        # leaves the variance 1, and PyTorch 2.11 takes no 0.
        parts = [
            F.batch_norm(part, norm.zero, norm.one, by, plus, training=False, eps=EPS)
            for part, by, plus in zip(images.chunk(len(mean)), scale, shift, strict=True)
        ]
        gradient = parts[0] if len(parts) == 1 else torch.cat(parts)
        return gradient.addcmul_(to_outputs, norm.slope(images.dtype)), None, None


def _moments(images: torch.Tensor, zero: torch.Tensor, one: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and biased variance of each channel (C,), in the precision of ``zero`` and ``one``, which hold nothing else (C,).

    The CPU's kernel adds value by value, so large layers are measured in parts there, whose moments are put together.
    """
    if images.device.type not in ("cpu", "cuda"):  # the kernel was written for these two
        var, mean = torch.var_mean(images.to(zero.dtype), dim=(0, 2, 3), correction=0)
        return mean, var
    parts = images.split(max(1, PART // images[0, 0].numel())) if images.device.type == "cpu" else [images]
    # The buffers, which a momentum of 0 leaves as they are, are there for their precision: sums of half precision would lose the
    # difference that is to be matched.
    moments = [torch.batch_norm_update_stats(part, zero, one, 0.0) for part in parts]
    if len(moments) == 1:
        return moments[0]
    shares = torch.tensor([len(part) / len(images) for part in parts], dtype=zero.dtype).view(-1, 1)
    means, variances = (torch.stack(values) for values in zip(*moments, strict=True))
    mean = (shares * means).sum(0)
    return mean, (shares * (variances + (means - mean).square())).sum(0)


@dataclass
class StatisticsCollector:
    """The list to which a teacher's layers add their statistics in a forward pass of ``blocks`` blocks, one after the other."""

    blocks: int = 1
    seen: list[LayerStatistics] = field(default_factory=list)

    def start(self, blocks: int) -> None:
        self.blocks, self.seen = blocks, []

    def take(self) -> list[LayerStatistics]:
        """Return the statistics of the pass and let go of them, and of their graph."""
        seen, self.seen = self.seen, []
        return seen


class BatchNormWithStatistics(nn.Module):
    """A BatchNorm layer in eval mode that also measures its input for Eq. 7; its output is the layer's."""

    def __init__(self, layer: nn.BatchNorm2d, collector: StatisticsCollector) -> None:
        super().__init__()
        assert layer.running_mean is not None and layer.running_var is not None
        self.layer, self.collector = layer, collector
        self.zero, self.one = torch.zeros_like(layer.running_mean), torch.ones_like(layer.running_var)
        weight = self.one if layer.weight is None else layer.weight.detach()
        self._slope = (weight / (layer.running_var + layer.eps).sqrt()).view(1, -1, 1, 1)

    def slope(self, dtype: torch.dtype) -> torch.Tensor:
        """``d output/d input`` (1, C, 1, 1), kept in the precision of the images."""
        self._slope = self._slope.to(dtype)
        return self._slope

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        layer, collector = self.layer, self.collector
        outputs, mean, var = _NormWithStatistics.apply(images, self, collector.blocks)
        collector.seen.append(LayerStatistics(mean, var, layer.running_mean, layer.running_var))  # type: ignore[arg-type]
        return outputs


class MeasuredTeacher:
    """A frozen teacher, in eval mode, whose BatchNorm layers are replaced by ones that measure their inputs.

    Targets are means and variances that are to be matched instead of the running ones, in the order of the forward pass.
    """

    def __init__(self, network: nn.Module, targets: Sequence[tuple[torch.Tensor, torch.Tensor]] = ()) -> None:
        self._collector = StatisticsCollector()
        replace_batchnorm(network, lambda layer: BatchNormWithStatistics(layer, self._collector))
        self.network, self._targets = network, targets

    def __call__(self, images: torch.Tensor, blocks: int = 1, *more: Any) -> tuple[Any, list[LayerStatistics]]:
        """What the network returns for normalised images (N, C, H, W), and the layers' statistics of each of their blocks."""
        self._collector.start(blocks)
        logits, layers = self.network(images, *more), self._collector.take()
        if self._targets:
            pairs = zip(layers, self._targets, strict=True)
            layers = [LayerStatistics(layer.mean, layer.var, *target) for layer, target in pairs]
        return logits, layers


def replace_batchnorm(network: nn.Module, make: Callable[[nn.BatchNorm2d], nn.Module]) -> None:
    """Replace every BatchNorm layer by ``make(layer)``; raise UserError if there is none."""
    modules = network.named_modules(remove_duplicate=False)  # a layer may stand in several places
    layers = {name: layer for name, layer in modules if isinstance(layer, nn.BatchNorm2d)}
    if not layers:
        raise UserError(
            "the pool's network has no BatchNorm layer to match; choose one that has, such as model=convnet3."
        )
    for name, layer in layers.items():
        parent, _, own = name.rpartition(".")
        setattr(network.get_submodule(parent), own, make(layer))
