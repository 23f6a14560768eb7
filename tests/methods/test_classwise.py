"""Class-wise matching against closed forms and finite differences."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from teddy.methods.class_matching import Shared
from teddy.methods.class_statistics import RealClasses, StatisticsNetwork
from teddy.methods.classwise import ClassWise, layer_distance, relative_distance
from teddy.methods.readout import readout_error
from teddy.models.networks import build_network
from teddy.pool.members import Trajectory
from teddy.synthesis.blocks import Block
from teddy.synthesis.optimized import State
from tests.methods.test_run import DEVICE, inputs, run_in  # noqa: F401 - a fixture


@pytest.fixture
def method() -> ClassWise:
    return ClassWise(
        ipc=2,
        iterations=6,
        lr=10.0,
        momentum=0.5,
        depth=2,
        ce_weight=0.7,
        bn_weight=0.3,
        strategy="dsa",
        augmentations=5,
        real_images=8,
    )


def test_the_distance_is_relative_to_the_scatter_of_the_real_means():
    real = torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]])  # scatter 4 + 0 + 4
    own = real + torch.tensor([[1.0, 1.0], [0.0, 2.0], [0.0, 0.0]])
    assert relative_distance(own, real, torch.arange(3)).item() == pytest.approx((2 + 4) / 8)
    assert relative_distance(10 * own, 10 * real, torch.arange(3)).item() == pytest.approx((2 + 4) / 8)
    one_of_three = relative_distance(own[1:2], real, torch.tensor([1]))
    assert one_of_three.item() == pytest.approx(4 / (8 / 3))


def test_layers_are_summed_and_classes_averaged():
    real = {"mean0": torch.zeros(3, 2), "var0": torch.ones(3, 2), "features0": torch.zeros(3, 9)}
    own = {
        "mean0": torch.tensor([[3.0, 4.0], [0.0, 0.0]]),
        "var0": torch.tensor([[1.0, 1.0], [1.0, 3.0]]),
        "features0": torch.ones(2, 9),
    }
    assert layer_distance(own, real, torch.tensor([0, 2])).item() == pytest.approx((5 + 2) / 2)


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_gradient_agrees_with_finite_differences(method, inputs, blocks):  # noqa: F811
    draws = torch.Generator().manual_seed(blocks)
    networks = [StatisticsNetwork(inputs.pool.load(index).double(), depth=2, batchnorm=True) for index in range(4)]
    sizes = {"features0": 16, "features1": 64, "mean0": 4, "var0": 4, "mean1": 4, "var1": 4}
    banks = [
        {name: torch.randn(5, 3, size, generator=draws).double() for name, size in sizes.items()} for _ in networks
    ]
    shared = Shared(RealClasses(inputs, DEVICE, "dsa", 8), networks, banks)
    labels = torch.tensor([0, 0, 1, 1, 2, 2]) if blocks == 1 else torch.tensor([0, 1, 0, 1])
    pixels = torch.randn(len(labels), 1, 8, 8, generator=draws, dtype=torch.float64)
    group = [Block(index, tuple(part.tolist()), (0,) * len(part)) for index, part in enumerate(labels.chunk(blocks))]

    def value(at: torch.Tensor, iteration: int) -> tuple[float, torch.Tensor]:
        state = State(group, torch.nn.Parameter(at.clone()), labels, 0, shared, tiles=1)
        terms = method.step(state, iteration)
        assert terms["loss"].shape == (blocks,)
        parts = terms["class_means"] + 0.7 * terms["cross_entropy"] + 0.3 * terms["batchnorm"]
        assert torch.allclose(terms["loss"], parts)
        return terms["loss"].sum().item(), state.pixels.grad

    for iteration in range(4):
        _, gradient = value(pixels, iteration)
        for where in [(0, 0, 3, 4), (3, 0, 5, 2), (2, 0, 4, 4)]:
            step = torch.zeros_like(pixels)
            step[where] = 1e-2
            rise = value(pixels + step, iteration)[0] - value(pixels - step, iteration)[0]
            assert gradient[where].item() == pytest.approx(rise / 2e-2, rel=3e-2, abs=3e-3)


@pytest.mark.parametrize("blocks", [1, 2])
def test_each_block_trains_a_readout_of_its_own(method, inputs, blocks):  # noqa: F811
    one = dataclasses.replace(method, readout_weight=2.0, readout_images=20, augmentations=2)
    shared = one.prepare(inputs, DEVICE)
    labels = torch.tensor([0, 0, 1, 1, 2, 2] * blocks)
    pixels = torch.randn(len(labels), 1, 8, 8, generator=torch.Generator().manual_seed(0))
    group = [Block(index, (0, 0, 1, 1, 2, 2), (0, 1) * 3) for index in range(blocks)]
    state = State(group, torch.nn.Parameter(pixels), labels, 0, shared, 1)
    for iteration in range(3):
        network, real, draw = one.choose(state, iteration)
        terms = one.step(state, iteration)
        features, truth = shared.real.batch(network, 20, 0, iteration, draw)
        assert torch.equal(real["batch"], features)
        for index, part in enumerate(pixels.chunk(blocks)):
            own = network(shared.real.augmented(part, draw))[2]
            expected = readout_error(own, labels[:6], features, truth, 3)
            assert terms["readout"][index].item() == pytest.approx(expected.item(), rel=1e-4)
        parts = terms["class_means"] + 0.7 * terms["cross_entropy"] + 0.3 * terms["batchnorm"] + 2 * terms["readout"]
        assert torch.allclose(terms["loss"], parts)


@pytest.mark.parametrize("augmentations", [1, 0])
def test_images_come_nearer_to_the_real_class_means(method, inputs, tmp_path, augmentations):  # noqa: F811
    """Against a bank of one draw, and against live batches."""
    changes = {"iterations": 60, "lr": 0.3, "ce_weight": 0.0, "bn_weight": 0.0, "depth": 1}
    long = dataclasses.replace(method, augmentations=augmentations, **changes)
    made = long.synthesize(inputs, run_in(tmp_path / "run"))
    rows = [line.split(",") for line in (tmp_path / "run" / "terms.csv").read_text().splitlines()]
    assert rows[0] == ["block", "iteration", "loss", "class_means", "cross_entropy"]
    values = [float(row[3]) for row in rows[1:]]
    assert values[-1] < 0.8 * values[0]
    assert made.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_random_networks_are_matched_beside_the_teachers_without_cross_entropy(method, inputs):  # noqa: F811
    mixed = dataclasses.replace(method, random_networks=5, augmentations=2)
    shared = mixed.prepare(inputs, DEVICE)
    assert [network.number for network in shared.networks] == [0, 0, 0, 0, 1, 2, 3, 4, 5]
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    pixels = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    seen = set()
    for iteration in range(30):
        state = State([Block(0, tuple(labels.tolist()), (0, 1) * 3)], torch.nn.Parameter(pixels), labels, 0, shared, 1)
        network, real, draw = mixed.choose(state, iteration)
        row = draw - 2 * network.number
        bank = shared.banks[shared.networks.index(network)]
        assert torch.equal(real["features0"], bank["features0"][row])
        terms = mixed.step(state, iteration)
        matched = terms["class_means"] + 0.3 * terms["batchnorm"]
        expected = matched if network.number else matched + 0.7 * terms["cross_entropy"]
        assert torch.allclose(terms["loss"], expected)
        seen.add((network.number > 0, row))
    assert len(seen) == 4, "both kinds of networks, both rows of their banks"


def few_shot_inputs(inputs):  # noqa: F811
    """The four members as two trainings, of which the first saw a few images alone."""
    pool = inputs.pool
    parts = [Trajectory(pool.members[i : i + 2], pool.spec, seed=i, few_shot=i == 0) for i in (0, 2)]
    inputs.pool = dataclasses.replace(pool, trajectories=tuple(parts))
    return inputs


def test_few_shot_teachers_have_no_cross_entropy(method, inputs):  # noqa: F811
    shared = method.prepare(few_shot_inputs(inputs), DEVICE)
    assert [network.trained for network in shared.networks] == [False, False, True, True]
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    pixels = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    state = State([Block(0, tuple(labels.tolist()), (0, 1) * 3)], torch.nn.Parameter(pixels), labels, 0, shared, 1)
    seen = set()
    for iteration in range(20):
        network, _, _ = method.choose(state, iteration)
        terms = method.step(state, iteration)
        expected = terms["class_means"] + 0.3 * terms["batchnorm"] + 0.7 * network.trained * terms["cross_entropy"]
        assert torch.allclose(terms["loss"], expected)
        seen.add(network.trained)
    assert seen == {False, True}


@pytest.mark.parametrize("share", [0.25, 0.8])
def test_networks_with_cross_entropy_have_their_share_of_the_iterations(method, inputs, share):  # noqa: F811
    mixed = dataclasses.replace(method, random_networks=5, ce_share=share, augmentations=1)
    shared = mixed.prepare(few_shot_inputs(inputs), DEVICE)
    draws = [(index + 0.5) / 7000 for index in range(7000)]
    counts = [0] * 9
    for draw in draws:
        counts[mixed.index(shared.networks, draw)] += 1
    expected = [share / 2 if network.trained else (1 - share) / 7 for network in shared.networks]
    assert [count / 7000 for count in counts] == pytest.approx(expected, abs=1e-3)
    assert mixed.index(shared.networks, 1 - 2**-53) == 8


def test_without_a_share_or_with_one_kind_of_networks_all_are_drawn_equally_often(method, inputs):  # noqa: F811
    networks = method.prepare(inputs, DEVICE).networks
    for one in (method, dataclasses.replace(method, ce_share=0.9)):
        assert [one.index(networks, (index + 0.5) / 8) for index in range(8)] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_instance_norm_teachers_serve_without_the_batchnorm_term():
    statistics, logits, _ = StatisticsNetwork(build_network("convnet2_w4_in", 3, 1, 8))(
        torch.randn(4, 1, 8, 8), groups=2
    )
    assert {name: tuple(tensor.shape) for name, tensor in statistics.items()} == {"features0": (2, 16)}
    assert logits.shape == (4, 3)


def test_the_rate_grows_with_the_images_of_a_class_in_a_block(method):
    labels = torch.tensor([0, 0, 0, 1, 1, 1] * 2)
    group = [Block(index, tuple(labels[:6].tolist()), (0, 1, 2) * 2) for index in range(2)]
    state = State(group, torch.nn.Parameter(torch.zeros(12, 1, 8, 8)), labels, 0, None, tiles=1)
    assert method.optimizer(state).param_groups[0]["lr"] == pytest.approx(3 * 10.0)
