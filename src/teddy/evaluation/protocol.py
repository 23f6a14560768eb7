"""Protocols: how a student is trained, as plain numbers, with the optimizer and the schedule that they name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Protocol:
    """One way to train a student."""

    labels: str  # "soft" (the run's label source) or "hard" (class indices)
    augment: str  # "views" (crop, flip, mix as labelled), or a strategy of DSA
    optimizer: str  # "adamw" or "sgd"
    lr: float
    momentum: float
    weight_decay: float
    batch_size: int
    epochs: int
    schedule: str  # "cosine" or "step"
    eta: float  # the cosine reaches 0 after eta times the epochs; 2 ends at half of the initial rate
    milestones: Sequence[float] = (0.5,)  # shares of the epochs, after which a step schedule falls
    gamma: float = 0.1  # by this factor
    cutmix: float = 0.0  # share of the batches that CutMix is applied to after DSA; views have their own

    def lr_factor(self, epoch: int) -> float:
        """Learning rate of the epoch that begins after ``epoch`` full ones, as a share of ``lr``."""
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * epoch / (self.epochs * self.eta)))
        return self.gamma ** sum(epoch > share * self.epochs for share in self.milestones)

    def make_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        if self.optimizer == "sgd":
            return torch.optim.SGD(network.parameters(), self.lr, self.momentum, weight_decay=self.weight_decay)
        # Decay on matrices and kernels only, as in the post-training code that the paper builds on.
        kernels = [parameter for parameter in network.parameters() if parameter.dim() > 1]
        others = [parameter for parameter in network.parameters() if parameter.dim() <= 1]
        groups = [{"params": kernels, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=self.lr, betas=(0.9, 0.999))
