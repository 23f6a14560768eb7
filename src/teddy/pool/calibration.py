"""BatchNorm's statistics measured anew: what a pruned network keeps are those of the whole one, which are wrong for it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Replaces the running statistics of every BatchNorm layer by their plain average over batches.

    Each layer sees what the layers before it make of the batch with the batch's own statistics, as in training; dropout is
    off. The modes and momenta of all layers are left as they were.

    Args:
        batches: normalised images (n, C, H, W), n > 1, on the network's device; equal weight for each batch.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    modes = {module: module.training for module in network.modules()}
    momenta = [layer.momentum for layer in layers]
    network.eval()
    for layer in layers:
        layer.train()
        layer.reset_running_stats()
        layer.momentum = None  # torch's word for a cumulative average
    for images in batches:
        network(images.contiguous(memory_format=torch.channels_last))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    for module, training in modes.items():
        module.training = training
