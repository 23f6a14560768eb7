"""A network as a function of its weights, for methods that differentiate through a student's training."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F


class StatelessNetwork:
    """A network that gets its weights with each call, as one vector that may be part of a graph.

    BatchNorm layers normalise by the batch, as in training; what they gather along the way has no effect. ``initial`` holds the
    network's own weights (P,), detached.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network.train().requires_grad_(False)
        self._shapes = {name: each.shape for name, each in network.named_parameters()}
        self._sizes = [math.prod(shape) for shape in self._shapes.values()]
        self.initial = self.flatten(dict(network.named_parameters()))

    def flatten(self, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Weights by name, such as a ``state_dict``, as one vector (P,), detached float32; what is no parameter is left out."""
        return torch.cat([weights[name].detach().float().flatten() for name in self._shapes])

    def unflatten(self, vector: torch.Tensor) -> dict[str, torch.Tensor]:
        parts = zip(self._shapes.items(), vector.split(self._sizes), strict=True)
        return {name: part.view(shape) for (name, shape), part in parts}

    def __call__(self, weights: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of normalised images (N, C, H, W) under weights (P,); differentiable in both, twice."""
        return functional_call(self._network, self.unflatten(weights), (images,))

    def gradient(
        self, weights: torch.Tensor, images: torch.Tensor, labels: torch.Tensor, create_graph: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradient (P,) of the cross-entropy with respect to the weights (P,), and detached logits (N, classes).

        Labels are classes (N,) or probabilities (N, classes). With ``create_graph`` the gradient is part of a graph, back to the
        images and to weights that are part of one.
        """
        weights = weights if weights.requires_grad else weights.detach().requires_grad_()
        logits = self(weights, images)
        loss = F.cross_entropy(logits, labels)
        return torch.autograd.grad(loss, weights, create_graph=create_graph)[0], logits.detach()
