"""The loss of Eq. 7 as one compiled graph for all teachers of one architecture: their weights are handed in.

Compiling takes as long as a hundred iterations or more, and convolutions, most of a step, stay what they are:
benchmarks/README.md shows what is gained.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from teddy.config.errors import StageFailed
from teddy.methods.batchnorm import LayerStatistics, StatisticsCollector, replace_batchnorm
from teddy.methods.teddy import TeacherLoss, block_cross_entropy, statistics_distance


class _TracedNorm(nn.Module):
    """BatchNorm in eval mode and the statistics of its input in operations that a compiler fuses into one pass each way.

    The sums are of the distances d from the running mean, which a trained layer's inputs lie around, so that
    ``E d^2 - (E d)^2`` loses no digits.
    """

    def __init__(self, layer: nn.BatchNorm2d, collector: StatisticsCollector) -> None:
        super().__init__()
        self.layer, self.collector = layer, collector

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        layer, blocks = self.layer, self.collector.blocks
        mean, var = layer.running_mean, layer.running_var
        assert mean is not None and var is not None
        off = (images.to(mean.dtype) - mean.view(1, -1, 1, 1)).unflatten(0, (blocks, -1))
        count = images.numel() // (blocks * len(mean))
        first, second = off.sum((1, 3, 4)) / count, off.square().sum((1, 3, 4)) / count
        self.collector.seen.append(LayerStatistics(first + mean, second - first.square(), mean, var))
        return F.batch_norm(images, mean, var, layer.weight, layer.bias, training=False, eps=layer.eps)


def compiled_losses(networks: Sequence[nn.Module], first_bn: float) -> list[TeacherLoss]:
    """The loss of each frozen teacher; as all have one shape, they share a graph, which the first call for a batch compiles."""
    collector = StatisticsCollector()
    skeleton = copy.deepcopy(networks[0])
    replace_batchnorm(skeleton, lambda layer: _TracedNorm(layer, collector))
    renamed = {
        f"{name}.{key}": f"{name}.layer.{key}"
        for name, layer in networks[0].named_modules()
        if isinstance(layer, nn.BatchNorm2d)
        for key in layer.state_dict()
    }

    def terms(
        state: dict[str, torch.Tensor], images: torch.Tensor, labels: torch.Tensor, blocks: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        collector.start(blocks)
        logits = functional_call(skeleton, state, (images,))
        distance = statistics_distance(collector.take(), first_bn)
        return block_cross_entropy(logits, labels, distance), distance

    graph = torch.compile(terms, dynamic=False)

    def loss(
        state: dict[str, torch.Tensor], images: torch.Tensor, labels: torch.Tensor, *, blocks: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        try:
            return graph(state, images, labels, blocks)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            why = str(error).strip().partition("\n")[0]
            raise StageFailed(
                f"the teachers could not be compiled ({why}); install a C++ compiler and Python's headers, or set "
                "synthesis.compile=false."
            ) from error

    states = [{renamed.get(key, key): value for key, value in network.state_dict().items()} for network in networks]
    return [functools.partial(loss, state) for state in states]
