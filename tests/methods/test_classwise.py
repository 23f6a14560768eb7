"""Class-wise matching against a slow, obvious float64 computation and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from teddy.data.dsa import DSA_DRAWS, STRATEGIES
from teddy.methods.classwise import ClassWise, Shared, class_means, relative_distance
from teddy.models.features import FeatureNetwork
from teddy.runtime import seeding
from teddy.synthesis.blocks import Block
from teddy.synthesis.optimized import State
from tests.methods.test_run import DEVICE, inputs, run_in  # noqa: F401 - a fixture

(OPERATIONS,) = STRATEGIES["dsa"]


@pytest.fixture
def method() -> ClassWise:
    return ClassWise(
        ipc=2, iterations=6, lr=10.0, momentum=0.5, ce_weight=0.7, augmentations=5, real_images=8, blocks_at_once=1
    )


def slow_view(image: np.ndarray, index: int) -> torch.Tensor:
    """One image under an augmentation of the bank, drawn by hand."""
    kind = int(seeding.uniform("class means", index, "operation")[0, 0] * len(OPERATIONS))
    strength = seeding.uniform("class means", index, "strength", samples=np.zeros(1), draws=DSA_DRAWS)
    return OPERATIONS[kind](image[None], strength)[0]


def slow_features(network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    x = image[None]
    for layer in network.features:
        x = layer(x)
    return x.flatten()


def test_the_bank_is_the_mean_of_each_class_taken_image_by_image(method, inputs):  # noqa: F811
    networks = [inputs.pool.load(index) for index in range(4)]
    bank = method.measure(inputs, [FeatureNetwork(network) for network in networks], DEVICE, seed=0)
    assert bank.shape == (4, 5, 3, 4 * 2 * 2)
    train = inputs.train
    for label in range(3):
        members = [i for i in range(len(train)) if int(train.labels[i]) == label]
        chosen = [members[i] for i in seeding.permutation(20, 0, "bank", label)[:8]]
        for teacher, network in enumerate(networks):
            double = network.double()
            for index in range(5):
                total = 0.0
                for i in chosen:
                    pixels = (train.take(torch.tensor([i]))[0].double() / 255 - 0.4) / 0.3
                    total = total + slow_features(double, slow_view(pixels, index))
                assert torch.allclose(bank[teacher, index, label].double(), total / 8, atol=1e-5)


def test_the_bank_is_measured_once_and_shared(method, inputs, tmp_path, monkeypatch):  # noqa: F811
    first = method.prepare(inputs, DEVICE).bank
    monkeypatch.setattr(ClassWise, "measure", lambda *args: pytest.fail("it is in the store"))
    other = ClassWise(**{**vars(method), "ipc": 5, "lr": 1.0, "ce_weight": 0.0})
    assert torch.equal(other.prepare(inputs, DEVICE).bank, first)


def test_the_distance_is_relative_to_the_scatter_of_the_real_means():
    real = torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]])  # scatter 4 + 0 + 4
    own = real + torch.tensor([[1.0, 1.0], [0.0, 2.0], [0.0, 0.0]])
    assert relative_distance(own, real, torch.arange(3)).item() == pytest.approx((2 + 4) / 8)
    assert relative_distance(10 * own, 10 * real, torch.arange(3)).item() == pytest.approx((2 + 4) / 8)
    assert relative_distance(own, real, torch.tensor([1])).item() == pytest.approx(4 / (8 / 3)), "one class of three"


def test_class_means_are_those_of_a_loop():
    features, labels = torch.randn(7, 3), torch.tensor([2, 0, 2, 0, 0, 2, 2])
    means = class_means(features, labels, 4)
    for label in (0, 2):
        assert torch.allclose(
            means[label], torch.stack([f for f, y in zip(features, labels, strict=True) if y == label]).mean(0)
        )
    assert not means[[1, 3]].any()


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_gradient_agrees_with_finite_differences(method, inputs, blocks):  # noqa: F811
    draws = torch.Generator().manual_seed(blocks)
    networks = [inputs.pool.load(index).double() for index in range(4)]
    bank = torch.randn(4, 5, 3, 16, generator=draws, dtype=torch.float64).float().double()
    shared = Shared([FeatureNetwork(network) for network in networks], bank)
    labels = torch.tensor([0, 1, 2, 0, 1, 2]) if blocks == 1 else torch.tensor([0, 1, 0, 1])
    pixels = torch.randn(len(labels), 1, 8, 8, generator=draws, dtype=torch.float64)
    group = [Block(index, tuple(part.tolist()), (0,) * len(part)) for index, part in enumerate(labels.chunk(blocks))]

    def value(at: torch.Tensor, iteration: int) -> tuple[float, torch.Tensor]:
        state = State(group, torch.nn.Parameter(at.clone()), labels, 0, shared)
        terms = method.step(state, iteration)
        assert terms["loss"].shape == (blocks,)
        assert torch.allclose(terms["loss"], terms["class_means"] + 0.7 * terms["cross_entropy"])
        return terms["loss"].sum().item(), state.pixels.grad

    for iteration in range(4):
        _, gradient = value(pixels, iteration)
        for where in [(0, 0, 3, 4), (3, 0, 5, 2), (2, 0, 4, 4)]:
            step = torch.zeros_like(pixels)
            step[where] = 1e-2
            rise = value(pixels + step, iteration)[0] - value(pixels - step, iteration)[0]
            assert gradient[where].item() == pytest.approx(rise / 2e-2, rel=2e-2, abs=2e-3)


def test_images_come_nearer_to_the_real_class_means(method, inputs, tmp_path):  # noqa: F811
    long = ClassWise(**{**vars(method), "iterations": 60, "augmentations": 1, "ce_weight": 0.0})
    made = long.synthesize(inputs, run_in(tmp_path / "run"))
    rows = [line.split(",") for line in (tmp_path / "run" / "terms.csv").read_text().splitlines()]
    assert rows[0] == ["block", "iteration", "loss", "class_means", "cross_entropy"]
    assert float(rows[-1][3]) < 0.8 * float(rows[1][3])
    assert made.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_the_rate_grows_with_the_images_of_a_class_in_a_block(method):
    labels = torch.tensor([0, 0, 0, 1, 1, 1] * 2)
    group = [Block(index, tuple(labels[:6].tolist()), (0, 1, 2) * 2) for index in range(2)]
    state = State(group, torch.nn.Parameter(torch.zeros(12, 1, 8, 8)), labels, 0, None)
    assert method.optimizer(state).param_groups[0]["lr"] == pytest.approx(3 * 10.0)
