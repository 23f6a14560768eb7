"""The synthesis step as a script is usually written, from the formulas: the slow reference.

Eq. 7 in float32 with contiguous tensors. A forward hook per BatchNorm layer takes the mean and, from a permuted copy, the
biased variance of its input; the losses of all teachers are added and walked back together, so that all their graphs are alive
at once; views come from torchvision; the pixels are clamped channel by channel; and the loss is read in every step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from torchvision import transforms


class StatisticsHook:
    """Distance of a BatchNorm layer's input to what the layer remembers: ``||mean - RM||_2 + ||var - RV||_2``."""

    def __init__(self, layer: nn.BatchNorm2d) -> None:
        self.distance: torch.Tensor | None = None
        layer.register_forward_hook(self._after)

    def _after(self, layer: nn.BatchNorm2d, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        x = inputs[0]
        mean = x.mean([0, 2, 3])
        var = x.permute(1, 0, 2, 3).contiguous().view(x.shape[1], -1).var(1, unbiased=False)
        self.distance = torch.norm(layer.running_mean - mean, 2) + torch.norm(layer.running_var - var, 2)


class StraightforwardLoss:
    """Eq. 7 summed over teachers in evaluation mode, as one graph."""

    def __init__(self, teachers: Sequence[nn.Module], ce: float, bn: float, first_bn: float) -> None:
        self.teachers = list(teachers)
        self.ce, self.bn, self.first_bn = ce, bn, first_bn
        self.hooks = [
            [StatisticsHook(layer) for layer in teacher.modules() if isinstance(layer, nn.BatchNorm2d)]
            for teacher in self.teachers
        ]

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss = images.new_zeros(())
        for teacher, hooks in zip(self.teachers, self.hooks, strict=True):
            loss = loss + self.ce * F.cross_entropy(teacher(images), labels)
            weights = [self.first_bn] + [1.0] * (len(hooks) - 1)
            loss = loss + self.bn * sum(weight * hook.distance for weight, hook in zip(weights, hooks, strict=True))
        return loss


class StraightforwardStep:
    """One iteration of the optimisation; call it again for the next.

    Args:
        pixels: what to start from, normalised (N, C, H, W).
        bounds: the normalised values of black and white, each (C, 1, 1).
        shift: largest shift of a view in pixels.
    """

    def __init__(
        self,
        loss: StraightforwardLoss,
        pixels: torch.Tensor,
        labels: torch.Tensor,
        bounds: tuple[torch.Tensor, torch.Tensor],
        lr: float,
        betas: tuple[float, float],
        min_scale: float,
        shift: int,
    ) -> None:
        self.loss, self.labels, self.bounds, self.shift = loss, labels, bounds, shift
        self.pixels = pixels.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        self.optimizer = torch.optim.Adam([self.pixels], lr=lr, betas=betas)
        self.view = transforms.Compose(
            [
                transforms.RandomResizedCrop(pixels.shape[-1], scale=(min_scale, 1.0)),
                transforms.RandomHorizontalFlip(),
            ]
        )

    def __call__(self) -> float:
        down, right = torch.randint(-self.shift, self.shift + 1, (2,)).tolist()
        view = torch.roll(self.view(self.pixels), shifts=(down, right), dims=(2, 3))
        self.optimizer.zero_grad()
        loss = self.loss(view, self.labels)
        loss.backward()
        self.optimizer.step()
        low, high = self.bounds
        for channel in range(self.pixels.shape[1]):
            values = self.pixels.data[:, channel]
            self.pixels.data[:, channel] = torch.clamp(values, float(low[channel]), float(high[channel]))
        return loss.item()
