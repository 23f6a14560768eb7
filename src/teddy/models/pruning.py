"""Structural pruning with DepGraph and the random criterion (Fang et al., CVPR 2023; Sec. 3.3).

The recipe is that of Torch-Pruning's ImageNet script with ``--method random``, which brings a ResNet-18 at 224 pixels to the
1.2 GMACs and 7.72 M parameters of Table 6: each layer loses the same share of its channels, one per cent more at each step,
until the targets are met; the classifier keeps its outputs. The pruning history, a list of ``[module, whether output channels,
indices]`` in plain JSON, rebuilds the shapes on a fresh network.
"""

from __future__ import annotations

import contextlib
import copy
import math
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch_pruning
from torch import nn

from teddy.config.errors import UserError, reason

History = list[list[Any]]

_PLAIN = nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.Linear, nn.GroupNorm, nn.LayerNorm, nn.PReLU


def size_of(network: nn.Module, example: torch.Tensor) -> tuple[int, int]:
    """Multiply-accumulates for one image (1, C, H, W), also of BatchNorm, activation and pooling layers, and parameters."""
    # A copy on the meta device is counted, which computes nothing but shapes.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shapes = copy.deepcopy(network).to("meta")
        macs, parameters = torch_pruning.utils.count_ops_and_params(shapes, torch.empty_like(example, device="meta"))
    return int(macs), int(parameters)


def prune(
    network: nn.Module,
    example: torch.Tensor,
    macs: float | None,
    parameters: float | None,
    seed: int,
    step: float = 0.01,
) -> History:
    """Remove random channels, in place, until every given target is met; UserError if that cannot be done.

    Targets up to 1 are shares of the network's own numbers, and ``step`` is the share of each layer's channels that is removed at
    a time. A network on the meta device works as well, at little cost: the sizes that can be reached depend neither on the
    weights nor on the seed.
    """
    whole = size_of(network, example)
    limits = _limit(macs, whole[0]), _limit(parameters, whole[1])
    if _fits(whole, limits):
        raise UserError(
            f"there is nothing to prune, since the network has {_describe(whole)} already; lower pool.strategy.macs or "
            "pool.strategy.parameters (a number up to 1 is a share of the network's own)."
        )
    _refuse_loose_parameters(network)
    draws = torch.Generator().manual_seed(seed)
    with _traceable(network):
        classifier = _last_layer(network, example)
        pruner = torch_pruning.pruner.BasePruner(
            network,
            example,
            importance=lambda group: torch.rand(len(group[0][1]), generator=draws),
            pruning_ratio=1.0,
            iterative_steps=round(1 / step),
            ignored_layers=[classifier],
            # Their defaults are dictionaries that all pruners of a process would share.
            in_channel_groups={},
            out_channel_groups={},
            num_heads={},
        )
        size = whole
        for _ in range(pruner.iterative_steps):
            pruner.step()
            size = size_of(network, example)
            if _fits(size, limits):
                break
        network(example)
    if not _fits(size, limits):
        raise UserError(
            f"pruning cannot bring this {type(network).__name__} below {_describe(size)}; raise pool.strategy.macs or "
            "pool.strategy.parameters."
        )
    network.to(memory_format=torch.channels_last)
    return [
        [name, bool(outwards), [int(index) for index in chosen]] for name, outwards, chosen in pruner.pruning_history()
    ]


def replay(network: nn.Module, example: torch.Tensor, history: History) -> None:
    """Prune a fresh network, in place, by what :func:`prune` returned; the state dict of the pruned network fits it then."""
    with _traceable(network):
        graph = torch_pruning.DependencyGraph().build_dependency(network, example)
        graph.load_pruning_history(history)
        network(example)
    network.to(memory_format=torch.channels_last)


def _limit(target: float | None, whole: int) -> float:
    if target is None:
        return math.inf
    return target * whole if target <= 1 else target


def _fits(size: tuple[int, int], limits: tuple[float, float]) -> bool:
    return all(number <= limit for number, limit in zip(size, limits, strict=True))


def _describe(size: tuple[int, int]) -> str:
    return f"{size[0]:.4g} MACs and {size[1]:.4g} parameters"


@contextlib.contextmanager
def _traceable(network: nn.Module) -> Iterator[None]:
    """Prepare a network for DepGraph, which reads the graph that autograd records, and restore it."""
    training, frozen = network.training, not any(parameter.requires_grad for parameter in network.parameters())
    network.requires_grad_(True)
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            yield
    except UserError:
        raise
    except Exception as error:  # on a network that it does not support DepGraph raises errors of any kind
        raise UserError(
            f"this {type(network).__name__} cannot be pruned ({reason(error)}); choose another network, such as model=resnet18."
        ) from error
    finally:
        network.train(training).requires_grad_(not frozen)


def _last_layer(network: nn.Module, example: torch.Tensor) -> nn.Module:
    """Find the layer that computes the logits: the last linear layer or convolution of the forward pass."""
    called: list[nn.Module] = []
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    hooks = [layer.register_forward_hook(lambda layer, inputs, output: called.append(layer)) for layer in layers]
    network.eval()
    network(example)
    for hook in hooks:
        hook.remove()
    return called[-1]


def _refuse_loose_parameters(network: nn.Module) -> None:
    """Refuse parameters outside of plain layers, such as a transformer's class token, which DepGraph prunes by guesswork."""
    for name, _ in network.named_parameters():
        if not isinstance(network.get_submodule(name.rpartition(".")[0]), _PLAIN):
            raise UserError(
                f"this {type(network).__name__} cannot be pruned, because it has parameters outside of plain layers ({name}); "
                "choose another network, such as model=resnet18."
            )
