"""TESLA (Cui et al., ICML 2023): MTT's objective with the memory of one inner step, and soft labels of the expert.

With ``theta_{i+1} = theta_i - alpha g_i`` and ``v_N = dL / dtheta_N = 2 (theta_N - theta*) / ||theta*_t - theta*_{t+M}||^2``, the
steps are gone through a second time, from the last to the first, each with its own graph: the images of step i get the gradient
of ``-alpha v_{i+1} . g_i``, the rate that of ``-v_{i+1} . g_i``, and ``v_i = v_{i+1} - alpha (dg_i / dtheta_i)' v_{i+1}``. Of the
first pass only the weights are kept. The paper has v_N in all steps, as if theta_i did not depend on the images before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from teddy.methods.mtt import MTT
from teddy.methods.unrolled import Batch, UnrolledState, walk
from teddy.synthesis.optimized import State


@dataclass(frozen=True, kw_only=True)
class TESLA(MTT):
    """Matching of training trajectories in constant memory."""

    exact: bool  # the gradient is MTT's; false: the paper's, with v_N in all steps
    soft_labels: bool  # the student learns the target expert's predictions instead of classes

    citation: ClassVar[str] = (
        "Cui et al., Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory, ICML 2023 (arXiv 2211.10586)"
    )
    remedy: ClassVar[str] = "lower batch_syn"

    @property
    def graph_steps(self) -> int:
        return 1

    @torch.no_grad()
    def targets(self, state: State, expert: torch.Tensor) -> torch.Tensor:
        if not self.soft_labels:
            return state.labels
        parts = state.images.split(self.batch_syn or len(state.labels))
        return torch.cat([state.shared.network(expert, part) for part in parts]).softmax(1)

    def match(self, state: UnrolledState, start: torch.Tensor, target: torch.Tensor, batch: Batch) -> torch.Tensor:
        network, rate, scale = state.shared.network, self.rate(state), (start - target).square().sum()
        path = walk(network, start, batch, range(self.inner_steps), rate)
        off = path.pop() - target
        adjoint, rate_slope = 2 * off / scale, torch.zeros_like(rate)
        for index in reversed(range(self.inner_steps)):
            weights = path.pop().requires_grad_()
            pushed = -adjoint @ network.gradient(weights, *batch(index), create_graph=True)[0]
            rate_slope += pushed.detach()
            (rate.detach() * pushed).backward(inputs=[state.pixels, *([weights] if self.exact else [])])
            adjoint = adjoint + weights.grad if weights.grad is not None else adjoint
        rate.grad = rate_slope
        return off.square().sum() / scale
