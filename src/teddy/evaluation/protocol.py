"""Protocols: how a student is trained, as plain numbers, and the optimizers and schedules that they name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Protocol:
    """One way to train a student.

    Attributes:
        labels: "soft" (the run's label source) or "hard" (class indices).
        augment: "views" (crop, flip, mix as labelled) or "dsa" (differentiable Siamese augmentation).
        eta: the cosine reaches 0 after ``eta`` times the epochs; 2 ends at half of the initial rate.
    """

    labels: str
    augment: str
    optimizer: str
    lr: float
    momentum: float
    weight_decay: float
    batch_size: int
    epochs: int
    schedule: str
    eta: float

    def lr_at(self, epoch: int) -> float:
        """The learning rate of the epoch that begins after ``epoch`` full ones."""
        return self.lr * SCHEDULES[self.schedule](epoch, self.epochs, self.eta)

    def make_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """A fresh optimizer for a fresh student."""
        return OPTIMIZERS[self.optimizer](self, network)


def _cosine(epoch: int, epochs: int, eta: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * epoch / (epochs * eta)))


def _step(epoch: int, epochs: int, eta: float) -> float:
    # The DC family divides the rate by ten once, when one more than half of the epochs are done.
    return 1.0 if epoch < epochs // 2 + 1 else 0.1


SCHEDULES: dict[str, Callable[[int, int, float], float]] = {"cosine": _cosine, "step": _step}


def _adamw(protocol: Protocol, network: nn.Module) -> torch.optim.Optimizer:
    # Decay on matrices and kernels only, as in the post-training code that the paper builds on.
    kernels = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in network.parameters() if parameter.dim() <= 1]
    groups = [{"params": kernels, "weight_decay": protocol.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=protocol.lr, betas=(0.9, 0.999))


def _sgd(protocol: Protocol, network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        network.parameters(), lr=protocol.lr, momentum=protocol.momentum, weight_decay=protocol.weight_decay
    )


OPTIMIZERS: dict[str, Callable[[Protocol, nn.Module], torch.optim.Optimizer]] = {"adamw": _adamw, "sgd": _sgd}
