"""Eq. 7 and its pixel gradient against a slow, obvious float64 computation of our own."""

import copy
import functools
from collections import Counter

import pytest
import torch
from torch import nn

from teddy.methods.batchnorm import LayerStatistics, MeasuredTeacher
from teddy.methods.teddy import (
    TeacherLoss,
    choose_teachers,
    distance_at_once,
    ensemble_gradient,
    statistics_distance,
    teacher_terms,
)
from teddy.models.networks import build_network
from teddy.synthesis.blocks import Block

WEIGHTS = 0.7, 0.3  # of cross-entropy and BatchNorm term


def frozen_teacher(seed: int) -> nn.Module:
    """A float64 ConvNet-2 whose running statistics are neither 0 nor 1."""
    network = build_network("convnet2_w4", num_classes=3, channels=2, size=8, seed=seed).double()
    draws = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.copy_(torch.randn(4, generator=draws, dtype=torch.float64))
            layer.running_var.copy_(torch.rand(4, generator=draws, dtype=torch.float64) + 0.5)
    return network.eval().requires_grad_(False)


def slow_loss(networks: list[nn.Module], images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Eq. 7 written out with loops over layers, channels and images; nothing of the package is used."""
    total = images.new_zeros(())
    for network in networks:
        x, distances = images, []
        for layer in network.features:
            if isinstance(layer, nn.BatchNorm2d):
                mean_error = x.new_zeros(())
                var_error = x.new_zeros(())
                for channel in range(x.shape[1]):
                    values = x[:, channel].reshape(-1)
                    mean = values.sum() / len(values)
                    var = ((values - mean) ** 2).sum() / len(values)
                    mean_error = mean_error + (mean - layer.running_mean[channel]) ** 2
                    var_error = var_error + (var - layer.running_var[channel]) ** 2
                distances.append(mean_error.sqrt() + var_error.sqrt())
            x = layer(x)
        logits = network.classifier(x.flatten(1))
        ce = sum(-torch.log(logits[i].exp()[labels[i]] / logits[i].exp().sum()) for i in range(len(x))) / len(x)
        bn = 10.0 * distances[0] + sum(distances[1:])
        total = total + 0.7 * ce + 0.3 * bn
    return total


def loss_of(network: nn.Module, first_bn: float = 10.0) -> TeacherLoss:
    return functools.partial(teacher_terms, MeasuredTeacher(network), first_bn)


@pytest.fixture
def block() -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(5)
    return torch.randn(6, 2, 8, 8, generator=draws, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("count", [1, 3])
def test_value_and_gradient_are_those_of_the_slow_computation(count, block):
    images, labels = block
    networks = [frozen_teacher(seed) for seed in range(count)]
    leaf = images.clone().requires_grad_()
    expected = slow_loss(networks, leaf, labels)
    expected.backward()

    gradient, terms = ensemble_gradient([(loss_of(network), [0]) for network in networks], images, labels, *WEIGHTS)

    assert terms.total.item() == pytest.approx(expected.item(), rel=1e-12)
    assert torch.allclose(gradient, leaf.grad, rtol=1e-10, atol=1e-14)
    assert terms.total.item() == pytest.approx(0.7 * terms.ce.item() + 0.3 * terms.bn.item(), rel=1e-12)


def test_blocks_together_give_each_blocks_own_terms_and_gradient_for_any_teachers(block):
    images, labels = block
    images = images.contiguous(memory_format=torch.channels_last)
    networks = [frozen_teacher(seed) for seed in range(3)]
    looks_at = {0: [0, 1, 2], 1: [2], 2: [0, 2]}  # teacher: blocks of two images

    plan = [(loss_of(copy.deepcopy(networks[teacher])), indices) for teacher, indices in looks_at.items()]
    gradient, terms = ensemble_gradient(plan, images, labels, *WEIGHTS, blocks=3)

    for index in range(3):
        own = [networks[teacher] for teacher, indices in looks_at.items() if index in indices]
        leaf = images.chunk(3)[index].clone().requires_grad_()
        expected = slow_loss(own, leaf, labels.chunk(3)[index])
        expected.backward()
        assert terms.total[index].item() == pytest.approx(expected.item(), rel=1e-12)
        assert torch.allclose(gradient.chunk(3)[index], leaf.grad, rtol=1e-10, atol=1e-14)


def test_gradient_agrees_with_finite_differences(block):
    images, labels = block
    network = frozen_teacher(1)
    gradient, _ = ensemble_gradient([(loss_of(copy.deepcopy(network)), [0])], images, labels, *WEIGHTS)
    for index in [(0, 0, 0, 0), (3, 1, 4, 5), (5, 0, 7, 2)]:
        step = torch.zeros_like(images)
        step[index] = 1e-6
        rise = slow_loss([network], images + step, labels) - slow_loss([network], images - step, labels)
        assert gradient[index].item() == pytest.approx(rise.item() / 2e-6, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("distance", [statistics_distance, distance_at_once])
def test_distance_is_plain_not_squared_and_the_first_layer_counts_more(distance):
    zero, three_four = torch.zeros(2), torch.tensor([[3.0, 4.0]])
    off = LayerStatistics(mean=three_four, var=zero[None], running_mean=zero, running_var=zero)
    assert distance([off, off], first_bn=10.0).item() == pytest.approx(10 * 5 + 5)


def test_all_norms_at_once_are_the_norms_one_by_one_in_value_and_slope():
    draws = torch.Generator().manual_seed(8)
    found = []
    tensors = [torch.randn(shape, generator=draws, dtype=torch.float64) for c in (3, 5, 2) for shape in [(2, c)] * 2]
    known = [torch.randn(c, generator=draws, dtype=torch.float64) for c in (3, 5, 2) for _ in range(2)]
    for distance in (statistics_distance, distance_at_once):
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        layers = [LayerStatistics(*leaves[i : i + 2], *known[i : i + 2]) for i in (0, 2, 4)]
        value = distance(layers, first_bn=10.0)
        value.sum().backward()
        found.append((value.detach(), *(leaf.grad for leaf in leaves)))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-12)


def test_a_block_that_matches_exactly_has_no_loss_and_a_finite_gradient(block):
    images, labels = block
    network = frozen_teacher(2)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    # The later layers see other inputs once the first one's statistics change, so match them from front to back.
    for index in range(len(norms)):
        _, layers = MeasuredTeacher(copy.deepcopy(network))(images)
        norms[index].running_mean.copy_(layers[index].mean[0])
        norms[index].running_var.copy_(layers[index].var[0])
    gradient, terms = ensemble_gradient([(loss_of(network, first_bn=1.0), [0])], images, labels, 0.0, 1.0)
    assert terms.bn.item() == pytest.approx(0.0, abs=1e-12)
    assert torch.isfinite(gradient).all()


def test_memory_of_graphs_does_not_grow_with_the_number_of_teachers(block):
    """Only one teacher's graph is alive at any time: the bytes that autograd keeps peak at those of a single teacher."""
    images, labels = block
    peaks = {}
    for count in (1, 4):
        alive = peak = 0

        def pack(tensor):
            nonlocal alive, peak
            alive += tensor.nbytes
            peak = max(peak, alive)
            return _Held(tensor, release)

        def release(size):
            nonlocal alive
            alive -= size

        plan = [(loss_of(frozen_teacher(seed)), [0]) for seed in range(count)]
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held.tensor):
            ensemble_gradient(plan, images, labels, *WEIGHTS)
        peaks[count] = peak
    assert peaks[4] == peaks[1] > 0


class _Held:
    """Tells when autograd lets go of a saved tensor."""

    def __init__(self, tensor, release):
        self.tensor, self._release, self._size = tensor, release, tensor.nbytes

    def __del__(self):
        self._release(self._size)


def images_of(index: int, slot: int) -> Block:
    return Block(index, classes=(0, 1), slots=(slot, slot))


@pytest.mark.parametrize("policy", ["block", "iteration", "round_robin"])
def test_teachers_are_distinct_members_of_the_pool(policy):
    for iteration in range(20):
        chosen = choose_teachers(policy, images_of(0, 0), iteration, 9, 3, 0)
        assert len(set(chosen)) == 3
        assert set(chosen) <= set(range(9))


def test_block_policy_is_fixed_over_iterations_and_shared_by_an_image_index():
    draw = functools.partial(choose_teachers, "block")
    assert draw(images_of(0, 4), 0, 9, 3, 0) == draw(images_of(7, 4), 999, 9, 3, 0)
    draws = {tuple(draw(images_of(slot, slot), 0, 9, 3, 0)) for slot in range(50)}
    assert len(draws) > 20


def test_block_policy_uses_every_member_about_equally_often():
    counts = Counter(k for slot in range(900) for k in choose_teachers("block", images_of(0, slot), 0, 9, 3, 0))
    # 300 expected for each of the nine; the standard deviation is sqrt(900 * 1/3 * 2/3) = 14.
    assert all(abs(counts[k] - 300) < 5 * 14.2 for k in range(9))


def test_iteration_policy_changes_and_round_robin_visits_all():
    draws = {tuple(choose_teachers("iteration", images_of(0, 0), t, 9, 3, 0)) for t in range(50)}
    assert len(draws) > 20
    seen = [k for t in range(3) for k in choose_teachers("round_robin", images_of(0, 0), t, 9, 3, 0)]
    assert sorted(seen) == list(range(9))


def test_the_distance_and_its_gradient_are_taken_in_float32_under_autocast():
    draws = torch.Generator().manual_seed(4)
    seen = [torch.randn(2, 5, generator=draws).requires_grad_() for _ in range(2)]
    layer = LayerStatistics(*seen, torch.randn(5, generator=draws), torch.rand(5, generator=draws))
    found = []
    for enabled in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            value = distance_at_once([layer, layer], first_bn=10.0)
        found.append((value.detach(), *torch.autograd.grad(value.sum(), seen)))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))
