"""Teddy (Yu, Liu, Ye, Wang; ECCV 2024): images matched to an ensemble of weak teachers, Eq. 7 (Eq. 21 in the appendix).

``L(x) = sum_k [ u * CE(h_k(x), y) + alpha * sum_l w_l (||mean_l(x) - RM_l||_2 + ||var_l(x) - RV_l||_2) ]``

over the teachers k of a block and their BatchNorm layers l: mean and variance are those of the layer's input over (N, H, W) of
the block, RM and RV the layer's running statistics. The paper writes neither alpha (Table 7's "weight of BN loss") nor w_l (10
for the first layer, as in SRe2L). SRe2L is the same objective with one converged teacher: ``conf/method/sre2l.yaml``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import nn
from torch.nn import functional as F

from teddy.config.errors import UserError
from teddy.config.types import Beta, Count, Number, Positive, Weight
from teddy.methods.balanced import Targets, balanced_statistics
from teddy.methods.batchnorm import LayerStatistics, MeasuredTeacher
from teddy.pool.strategy import PoolStrategy
from teddy.pool.trajectory import BaseTraining
from teddy.runtime import seeding
from teddy.runtime.device import DeviceConfig
from teddy.synthesis.blocks import Block
from teddy.synthesis.method import Inputs, Needs, later, untrained_teacher
from teddy.synthesis.optimized import OptimizedMethod, State, cosine, views_of
from teddy.synthesis.views import BlockView


@dataclass(frozen=True)
class Terms:
    """The value of Eq. 7 for each block and its two parts before weighting, each (blocks,)."""

    total: torch.Tensor
    ce: torch.Tensor
    bn: torch.Tensor


class TeacherLoss(Protocol):
    """Cross-entropy and BatchNorm term of one teacher before weighting, each (blocks,).

    Images are normalised (N, C, H, W), block after block; their labels are (N,).
    """

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, *, blocks: int
    ) -> tuple[torch.Tensor, torch.Tensor]: ...


def statistics_distance(layers: Sequence[LayerStatistics], first_bn: float) -> torch.Tensor:
    """Sum over layers of the plain (not squared) L2 distances of mean and variance, the two norms of Eq. 7: (blocks,)."""
    distances = [
        torch.linalg.vector_norm(layer.mean - layer.running_mean, dim=-1)
        + torch.linalg.vector_norm(layer.var - layer.running_var, dim=-1)
        for layer in layers
    ]
    return first_bn * distances[0] + sum(distances[1:], torch.zeros_like(distances[0]))


def distance_at_once(layers: Sequence[LayerStatistics], first_bn: float) -> torch.Tensor:
    """:func:`statistics_distance` in a dozen operations for all layers: one by one they take as long as a layer's passes."""
    own = torch.cat([values for layer in layers for values in (layer.mean, layer.var)], dim=1)
    known = torch.cat([values for layer in layers for values in (layer.running_mean, layer.running_var)])
    channels = tuple(len(layer.running_mean) for layer in layers)
    with torch.autocast(known.device.type, enabled=False):  # a matrix product would be taken in half precision
        squares = (own - known).square() @ _membership(channels, known.dtype, known.device)
    # A norm of zero has no slope; so small a one gets the slope zero.
    norms = squares.clamp(min=torch.finfo(squares.dtype).tiny).sqrt()
    return norms.sum(1) + (first_bn - 1) * norms[:, :2].sum(1)


@functools.lru_cache(maxsize=16)
def _membership(channels: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros and ones that sum squared differences of channels to two norms for each layer: (2 sum of C, 2 layers)."""
    sizes = torch.tensor([size for size in channels for _ in range(2)])
    return torch.eye(len(sizes)).repeat_interleave(sizes, 0).to(device, dtype)


def block_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, distance: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the logits (N, classes) of each block, (blocks,), in the precision of the distance (blocks,)."""
    each = F.cross_entropy(logits.to(distance.dtype), labels, reduction="none")
    return each.view(len(distance), -1).mean(1)


def teacher_terms(
    teacher: MeasuredTeacher, first_bn: float, images: torch.Tensor, labels: torch.Tensor, *, blocks: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """The terms of one teacher, of which the first BatchNorm layer has the weight ``first_bn``; see :class:`TeacherLoss`."""
    logits, layers = teacher(images, blocks)
    distance = distance_at_once(layers, first_bn)
    return block_cross_entropy(logits, labels, distance), distance


def teacher_losses(
    networks: Sequence[nn.Module], first_bn: float, targets: Sequence[Targets] | None = None
) -> list[TeacherLoss]:
    """The loss of each teacher, perhaps with targets in place of its running statistics; its BatchNorm layers are replaced."""
    measured = [MeasuredTeacher(*pair) for pair in zip(networks, targets or [[]] * len(networks), strict=True)]
    return [functools.partial(teacher_terms, teacher, first_bn) for teacher in measured]


def ensemble_gradient(
    plan: Iterable[tuple[TeacherLoss, list[int]]],
    images: torch.Tensor,
    labels: torch.Tensor,
    ce_weight: float,
    bn_weight: float | torch.Tensor,
    blocks: int = 1,
) -> tuple[torch.Tensor, Terms]:
    """The gradient of Eq. 7 with respect to ``images``, one teacher at a time.

    The sum over teachers is linear, so each teacher's graph is walked back and freed before the next one is built: the memory
    is that of a single teacher however many there are (invariant 4). Blocks share nothing but the passes.

    The images, normalised (N, C, H, W), are ``blocks`` blocks of one size, one after the other; what lies before them in a graph
    is not entered. ``plan`` holds each teacher with the indices of the blocks that it looks at. ``bn_weight`` is one for all
    blocks or one for each (blocks,). The terms, detached, are summed over the teachers of each block.
    """
    images, gradient = images.detach(), None
    sums = torch.zeros(3, blocks, device=images.device, dtype=images.dtype)
    for teacher_loss, indices in plan:
        everything = len(indices) == blocks
        leaf, classes = (
            values if everything else torch.cat([values.chunk(blocks)[index] for index in indices])
            for values in (images, labels)
        )
        leaf = leaf.detach().requires_grad_()
        ce, bn = teacher_loss(leaf, classes, blocks=len(indices))
        total = ce_weight * ce + (bn_weight[indices] if isinstance(bn_weight, torch.Tensor) else bn_weight) * bn
        with torch.autocast(images.device.type, enabled=False):  # each step back in the type of its step forward
            (slope,) = torch.autograd.grad(total.sum(), leaf)
        values = torch.stack([total, ce, bn]).detach()
        if everything:
            gradient, sums = slope if gradient is None else gradient.add_(slope), sums + values
            continue
        gradient = torch.zeros_like(images) if gradient is None else gradient
        # Block by block, since a list of indices would have to be copied to the device in each step.
        for own, index in enumerate(indices):
            gradient.chunk(blocks)[index].add_(slope.chunk(len(indices))[own])
            sums[:, index] += values[:, own]
    assert gradient is not None
    return gradient, Terms(*sums)


@dataclass
class TeddyState(State):
    """The factor on alpha of each block (blocks,)."""

    bn_scale: torch.Tensor


Policy = Literal["block", "iteration", "round_robin"]


def choose_teachers(policy: Policy, block: Block, iteration: int, members: int, count: int, seed: int) -> list[int]:
    """Which ``count`` of ``members`` teachers a block sees in an iteration.

    Drawn without replacement once per image index (Sec. 4.1), so that blocks of other classes share them, or again in each
    iteration (Algorithm 1 read literally); or all in turn.
    """
    image = block.slots[0]
    if policy == "round_robin":
        start = (iteration + image) * count
        return [(start + offset) % members for offset in range(count)]
    again = [iteration] if policy == "iteration" else []
    return sorted(seeding.permutation(members, seed, "teachers", image, *again)[:count].tolist())


@dataclass(frozen=True, kw_only=True)
class Teddy(OptimizedMethod):
    """Eq. 7 by Adam with a cosine schedule (Algorithm 1, the while loop; Table 7)."""

    lr: Positive
    betas: tuple[Beta, Beta]
    weight_decay: Weight  # of Adam: weight_decay * pixels is added to the gradient
    ce_weight: Weight  # u
    bn_weight: Weight  # alpha
    first_bn_weight: Weight  # w_1
    teachers_per_block: Count  # n
    teacher_policy: Policy
    view: BlockView
    compile: bool  # the teachers, all of one shape, to one graph; changes rounding only
    bn_balance: bool = later(False)  # alpha is relative to cross-entropy / BatchNorm term of the first images
    balanced: Number = later(0)  # real images of a class for class-balanced statistics (Sec. C.1); 0: the running ones

    version: ClassVar[int] = 3  # 2: another kernel for the statistics
    citation: ClassVar[str] = (
        "Yu et al., Teddy: Efficient Large-Scale Dataset Distillation, ECCV 2024 (arXiv 2410.07579)"
    )

    def needs(self) -> Needs:
        return Needs(pool=True, data=self.initial == "real" or self.balanced > 0)

    def check(self, members: int | None) -> None:
        if members is not None and self.teachers_per_block > members:
            raise UserError(
                f"synthesis.teachers_per_block={self.teachers_per_block} asks for more teachers than the pool's {members}; "
                "lower it or enlarge the pool (pool.first, pool.last, pool.every, pool.size)."
            )
        if self.balanced and self.compile:
            raise UserError(
                "compiled teachers match their running statistics; set synthesis.compile=false or balanced=0."
            )

    def check_run(self, strategy: PoolStrategy, base: BaseTraining) -> None:
        MeasuredTeacher(untrained_teacher(strategy, base))

    def prepare(self, inputs: Inputs, device_config: DeviceConfig) -> list[TeacherLoss]:
        from teddy.methods.compiled import compiled_losses  # imports the compiler, which takes seconds

        teachers = inputs.pool.load_teachers(device_config)
        if self.compile:
            return compiled_losses(teachers, self.first_bn_weight)
        targets = balanced_statistics(inputs, device_config, self.balanced) if self.balanced else None
        return teacher_losses(teachers, self.first_bn_weight, targets)

    def setup(self, state: State) -> TeddyState:
        return TeddyState(**vars(state), bn_scale=torch.ones(len(state.blocks), device=state.pixels.device))

    def tensors(self, state: Any) -> dict[str, torch.Tensor]:
        return {"bn_scale": state.bn_scale} if self.bn_balance else {}

    def optimizer(self, state: State) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            [state.pixels], lr=self.lr, betas=self.betas, weight_decay=self.weight_decay, fused=True
        )

    def lr_factor(self, iteration: int) -> float:
        return cosine(iteration, self.iterations)

    def step(self, state: Any, iteration: int) -> dict[str, torch.Tensor]:
        """The gradient of Eq. 7 on the iteration's views, on through the views to the pixels."""
        view, plan = views_of(self.view, state, iteration), self.plan(state, iteration)
        gradient = functools.partial(
            ensemble_gradient, plan, view, state.labels, self.ce_weight, blocks=len(state.blocks)
        )
        if self.bn_balance and iteration == 0:
            first = gradient(bn_weight=self.bn_weight)[1]
            state.bn_scale.copy_(first.ce / first.bn)
        slope, terms = gradient(bn_weight=self.bn_weight * state.bn_scale if self.bn_balance else self.bn_weight)
        view.backward(slope)
        return {"loss": terms.total, "cross_entropy": terms.ce, "bn_statistics": terms.bn}

    def plan(self, state: Any, iteration: int) -> list[tuple[TeacherLoss, list[int]]]:
        """The iteration's teachers, each with the indices of the group's blocks that it looks at."""
        of_pool = len(state.shared), self.teachers_per_block, state.seed
        drawn = [choose_teachers(self.teacher_policy, block, iteration, *of_pool) for block in state.blocks]
        looks_at = [[index for index, chosen in enumerate(drawn) if member in chosen] for member in range(of_pool[0])]
        return [(loss, indices) for loss, indices in zip(state.shared, looks_at, strict=True) if indices]
