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
from teddy.runtime import seeding
from teddy.runtime.device import DeviceConfig
from teddy.synthesis.blocks import Block
from teddy.synthesis.method import Inputs, Needs, later
from teddy.synthesis.optimized import OptimizedMethod, State, cosine, views_of
from teddy.synthesis.views import BlockView


@dataclass(frozen=True)
class Weights:
    """The weights of Eq. 7's terms: u, alpha, and w_1 of the first BatchNorm layer (every other layer has weight 1)."""

    ce: float = 1.0
    bn: float = 0.01
    first_bn: float = 10.0


@dataclass(frozen=True)
class Terms:
    """The value of Eq. 7 for each block and its two parts before weighting, each (blocks,)."""

    total: torch.Tensor
    ce: torch.Tensor
    bn: torch.Tensor


class TeacherLoss(Protocol):
    """One teacher's part of Eq. 7 for normalised images (N, C, H, W), block after block, and their labels (N,)."""

    def __call__(self, images: torch.Tensor, labels: torch.Tensor, *, blocks: int) -> Terms: ...


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


def layer_terms(logits: torch.Tensor, labels: torch.Tensor, distance: torch.Tensor, weights: Weights) -> Terms:
    """Eq. 7 for one teacher from its logits (N, classes) and the distance (blocks,) of its layers' statistics."""
    each = F.cross_entropy(logits.to(distance.dtype), labels, reduction="none")
    ce = each.view(len(distance), -1).mean(1)
    return Terms(weights.ce * ce + weights.bn * distance, ce, distance)


def teacher_terms(
    teacher: MeasuredTeacher, images: torch.Tensor, labels: torch.Tensor, weights: Weights, blocks: int = 1
) -> Terms:
    """One teacher's part of Eq. 7 for each of ``blocks`` blocks of the same size; see :class:`TeacherLoss`."""
    logits, layers = teacher(images, blocks)
    return layer_terms(logits, labels, distance_at_once(layers, weights.first_bn), weights)


def teacher_losses(
    networks: Sequence[nn.Module], weights: Weights, targets: Sequence[Targets] | None = None
) -> list[TeacherLoss]:
    """The loss of each teacher, perhaps with targets in place of its running statistics; its BatchNorm layers are replaced."""
    each = [[] for _ in networks] if targets is None else targets
    measured = [MeasuredTeacher(*pair) for pair in zip(networks, each, strict=True)]
    return [functools.partial(teacher_terms, teacher, weights=weights) for teacher in measured]


def scaled_bn(
    loss: TeacherLoss, weights: Weights, scale: torch.Tensor, images: torch.Tensor, labels: torch.Tensor, *, blocks: int
) -> Terms:
    """A teacher's part of Eq. 7 with alpha times ``scale``, which each block has its own of (blocks,)."""
    terms = loss(images, labels, blocks=blocks)
    return Terms(weights.ce * terms.ce + weights.bn * scale * terms.bn, terms.ce, terms.bn)


def ensemble_gradient(
    plan: Iterable[tuple[TeacherLoss, Sequence[int]]], images: torch.Tensor, labels: torch.Tensor, blocks: int = 1
) -> tuple[torch.Tensor, Terms]:
    """The gradient of Eq. 7 with respect to ``images``, one teacher at a time.

    The sum over teachers is linear, so each teacher's graph is walked back and freed before the next one is built: the memory
    is that of a single teacher however many there are (invariant 4). Blocks share nothing but the passes.

    The images, normalised (N, C, H, W), are ``blocks`` blocks of one size, one after the other; what lies before them in a graph
    is not entered. ``plan`` holds each teacher with the indices of the blocks that it looks at. The terms, detached, are summed
    over the teachers of each block.
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
        terms = teacher_loss(leaf, classes, blocks=len(indices))
        with torch.autocast(images.device.type, enabled=False):  # each step back in the type of its step forward
            (slope,) = torch.autograd.grad(terms.total.sum(), leaf)
        values = torch.stack([terms.total, terms.ce, terms.bn]).detach()
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

    def prepare(self, inputs: Inputs, device_config: DeviceConfig) -> list[TeacherLoss]:
        from teddy.methods.compiled import compiled_losses  # imports the compiler, which takes seconds

        teachers = inputs.pool.load_teachers(device_config)
        if self.compile:
            return compiled_losses(teachers, self.weights)
        targets = balanced_statistics(inputs, device_config, self.balanced) if self.balanced else None
        return teacher_losses(teachers, self.weights, targets)

    @property
    def weights(self) -> Weights:
        return Weights(self.ce_weight, self.bn_weight, self.first_bn_weight)

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
        view = views_of(self.view, state, iteration)
        if self.bn_balance and iteration == 0:
            first = ensemble_gradient(self.plan(state, 0), view, state.labels, len(state.blocks))[1]
            state.bn_scale.copy_(first.ce / first.bn)
        gradient, terms = ensemble_gradient(self.plan(state, iteration), view, state.labels, len(state.blocks))
        view.backward(gradient)
        return {"loss": terms.total, "cross_entropy": terms.ce, "bn_statistics": terms.bn}

    def plan(self, state: Any, iteration: int) -> list[tuple[TeacherLoss, list[int]]]:
        """The iteration's teachers, each with the indices of the group's blocks that it looks at."""
        members, drawn = len(state.shared), []
        for block in state.blocks:
            chosen = self.teacher_policy, block, iteration, members, self.teachers_per_block, state.seed
            drawn.append(choose_teachers(*chosen))
        looks_at = [[index for index, chosen in enumerate(drawn) if member in chosen] for member in range(members)]
        losses: list[TeacherLoss] = state.shared
        if self.bn_balance:
            scales = [state.bn_scale[indices] for indices in looks_at]
            losses = [
                functools.partial(scaled_bn, loss, self.weights, scale)
                for loss, scale in zip(losses, scales, strict=True)
            ]
        return [(losses[member], indices) for member, indices in enumerate(looks_at) if indices]
