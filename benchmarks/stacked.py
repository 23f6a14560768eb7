"""Students of one architecture as a single stacked network (torch.func): the alternative to training them side by side.

A prototype to measure against; the stages do not use it. Its results equal those of separate students within rounding only, and
only students of one architecture can be stacked.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.func import functional_call, stack_module_state

from teddy.labels.losses import soft_label_kl
from teddy.runtime.precision import Compute

Tensors = dict[str, torch.Tensor]


class StackedStudents:
    """S networks in training mode whose parameters and running statistics lie in stacked tensors.

    Args:
        networks: of one architecture; their state is copied.
        make_optimizer: for the stacked parameters; its rule must be element-wise.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        make_optimizer: Callable[[list[torch.Tensor]], torch.optim.Optimizer],
        temperature: float,
        compute: Compute,
    ) -> None:
        self.parameters, self.buffers = stack_module_state(list(networks))
        self.optimizer = make_optimizer(list(self.parameters.values()))
        self._network = copy.deepcopy(networks[0]).to("meta").train()
        self._temperature, self._compute = temperature, compute

    def step(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """One step of every student on its own batch; returns the losses (S,).

        Args:
            images: (S, B, C, H, W); ``targets`` (S, B, classes) are teachers' logits.
        """
        self.optimizer.zero_grad()
        with self._compute.autocast():
            logits = torch.vmap(self._logits)(self.parameters, self.buffers, images)
        pairs = zip(logits.float(), targets, strict=True)
        losses = torch.stack([soft_label_kl(one, wanted, self._temperature) for one, wanted in pairs])
        losses.sum().backward()
        self.optimizer.step()
        return losses.detach()

    def state(self, student: int) -> Tensors:
        """What the state dict of one of the networks would be."""
        return {name: tensor[student].detach() for name, tensor in {**self.parameters, **self.buffers}.items()}

    def _logits(self, parameters: Tensors, buffers: Tensors, images: torch.Tensor) -> torch.Tensor:
        return functional_call(self._network, (parameters, buffers), (images,))
