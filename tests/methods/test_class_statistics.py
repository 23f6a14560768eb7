"""Statistics of real classes against a slow, obvious float64 computation, image by image and layer by layer."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from teddy.config.errors import UserError
from teddy.data.dsa import DSA_DRAWS, STRATEGIES
from teddy.methods.class_statistics import RealClasses, StatisticsNetwork, teachers, untrained_networks
from teddy.models.networks import build_network
from teddy.pool.members import Trajectory
from teddy.runtime import seeding
from teddy.synthesis.method import Inputs
from tests.methods.test_run import DEVICE, inputs  # noqa: F401 - a fixture

NAMES = ["features0", "features1", "mean0", "var0", "mean1", "var1"]


def slow_view(image: torch.Tensor, draw: int, strategy: str) -> torch.Tensor:
    """One image under an augmentation, drawn by hand."""
    for index, operations in enumerate(STRATEGIES[strategy]):
        keys = ("class means", draw, index) if index else ("class means", draw)
        kind = int(seeding.uniform(*keys, "operation")[0, 0] * len(operations))
        strength = seeding.uniform(*keys, "strength", samples=np.zeros(1), draws=DSA_DRAWS)
        image = operations[kind](image[None], strength)[0]
    return image


def slow_statistics(network: torch.nn.Module, views: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Statistics of the images of one class: all inputs of each layer are kept, and counted channel by channel."""
    layers: dict[int, list[torch.Tensor]] = {0: [], 1: []}
    features, middle = [], []
    for view in views:
        x, seen = view[None], 0
        for layer in network.features:
            if isinstance(layer, torch.nn.BatchNorm2d):
                layers[seen].append(x[0])
                seen += 1
            if layer is network.features[4]:
                middle.append(x.flatten())
            x = layer(x)
        features.append(x.flatten())
    found = {"features0": sum(features) / len(features), "features1": sum(middle) / len(middle)}
    for index, inputs_ in layers.items():
        channels = torch.stack(inputs_).transpose(0, 1).flatten(1)
        mean = channels.sum(1) / channels.shape[1]
        found |= {f"mean{index}": mean, f"var{index}": ((channels - mean[:, None]) ** 2).sum(1) / channels.shape[1]}
    return found


@pytest.mark.parametrize("strategy", ["dsa", "dsa_strong_matching"])
def test_the_bank_is_that_of_a_loop_over_images(inputs, strategy):  # noqa: F811
    real = RealClasses(inputs, DEVICE, strategy, count=8)
    bank = real.banks([({"teacher": 1}, StatisticsNetwork(inputs.pool.load(1), 2, True))], 5)[0]
    assert list(bank) == sorted(NAMES)
    double = inputs.pool.load(1).double()
    for label in range(3):
        members = [i for i in range(60) if int(inputs.train.labels[i]) == label]
        chosen = [members[i] for i in seeding.permutation(20, 0, "bank", label)[:8]]
        pixels = [(inputs.train.images[i].double() / 255 - 0.4) / 0.3 for i in chosen]
        for draw in range(5):
            expected = slow_statistics(double, [slow_view(image, draw, strategy) for image in pixels])
            for name in NAMES:
                assert torch.allclose(bank[name][draw, label].double(), expected[name], atol=1e-5), name


def slow_untrained(name: str, inputs: Inputs, index: int) -> torch.nn.Module:  # noqa: F811
    """A random network in float64, with the statistics of real images set layer by layer."""
    network = build_network(name, 3, 1, 8, seeding.stable_seed("random network", index)).double().eval()
    network.requires_grad_(False)
    chosen = seeding.permutation(60, "BatchNorm statistics", index)  # fewer images than BATCHNORM_IMAGES
    x = torch.stack([(inputs.train.images[i].double() / 255 - 0.4) / 0.3 for i in chosen])
    for layer in network.features:
        if isinstance(layer, torch.nn.BatchNorm2d):
            channels = x.transpose(0, 1).flatten(1)
            layer.running_mean = channels.mean(1)
            layer.running_var = channels.var(1, unbiased=False)  # of a batch that is being trained on
            x = layer(x)
            layer.running_var = channels.var(1)  # what BatchNorm keeps of it
        else:
            x = layer(x)
    return network


def test_random_networks_have_real_batchnorm_statistics_and_augmentations_of_their_own(inputs):  # noqa: F811
    made = untrained_networks(inputs, DEVICE, "convnet2_w4", 3, depth=2, batchnorm=True)
    banks = RealClasses(inputs, DEVICE, "dsa", count=8).banks(made, 2)
    for index, bank in enumerate(banks):
        double = slow_untrained("convnet2_w4", inputs, index)
        for label in range(3):
            members = [i for i in range(60) if int(inputs.train.labels[i]) == label]
            chosen = [members[i] for i in seeding.permutation(20, 0, "bank", label, index + 1)[:8]]
            pixels = [(inputs.train.images[i].double() / 255 - 0.4) / 0.3 for i in chosen]
            for row in range(2):
                draw = 2 * (index + 1) + row
                expected = slow_statistics(double, [slow_view(image, draw, "dsa") for image in pixels])
                for name in NAMES:
                    assert torch.allclose(bank[name][row, label].double(), expected[name], atol=1e-5), name


def test_each_training_of_a_pool_has_augmentations_and_images_of_its_own(inputs):  # noqa: F811
    pool = inputs.pool
    halves = tuple(Trajectory(pool.members[i : i + 2], pool.spec, seed=i) for i in (0, 2))
    two = SimpleNamespace(pool=dataclasses.replace(pool, trajectories=halves))
    named = teachers(two, DEVICE, 2, batchnorm=True)
    assert [network.number for _, network in named] == [0, 0, -1, -1]
    banks = RealClasses(inputs, DEVICE, "dsa", count=8).banks(named, 2)
    for index, first in ((1, 0), (3, -2)):
        double = pool.load(index).double()
        for label in range(3):
            members = [i for i in range(60) if int(inputs.train.labels[i]) == label]
            chosen = [members[i] for i in seeding.permutation(20, 0, "bank", label, *([-1] if first else []))[:8]]
            pixels = [(inputs.train.images[i].double() / 255 - 0.4) / 0.3 for i in chosen]
            for row in range(2):
                expected = slow_statistics(double, [slow_view(image, first + row, "dsa") for image in pixels])
                for name in NAMES:
                    assert torch.allclose(banks[index][name][row, label].double(), expected[name], atol=1e-5), name


def test_live_batches_are_other_images_in_each_iteration(inputs):  # noqa: F811
    real, double = RealClasses(inputs, DEVICE, "dsa", count=6), inputs.pool.load(0).double()
    for iteration in (0, 7):
        live = real.live(StatisticsNetwork(inputs.pool.load(0)), 3, iteration)
        assert list(live) == ["features0"]
        for label in range(3):
            members = [i for i in range(60) if int(inputs.train.labels[i]) == label]
            chosen = [members[i] for i in seeding.permutation(20, 3, "live batch", label, iteration)[:6]]
            views = [slow_view((inputs.train.images[i].double() / 255 - 0.4) / 0.3, iteration, "dsa") for i in chosen]
            assert torch.allclose(
                live["features0"][label].double(), slow_statistics(double, views)["features0"], atol=1e-5
            )


def test_a_random_batch_gives_last_features_and_labels_of_other_images_in_each_iteration(inputs):  # noqa: F811
    real, double = RealClasses(inputs, DEVICE, "dsa", count=6), inputs.pool.load(0).double()
    for iteration in (0, 7):
        features, labels = real.batch(StatisticsNetwork(inputs.pool.load(0)), 9, 3, iteration, draw=5)
        chosen = seeding.permutation(60, 3, "real batch", iteration)[:9]
        assert labels.tolist() == [int(inputs.train.labels[i]) for i in chosen]
        for row, i in enumerate(chosen):
            view = slow_view((inputs.train.images[i].double() / 255 - 0.4) / 0.3, 5, "dsa")
            expected = slow_statistics(double, [view])["features0"]
            assert torch.allclose(features[row].double(), expected, atol=1e-5)


def test_groups_are_measured_one_by_one(inputs):  # noqa: F811
    network = StatisticsNetwork(inputs.pool.load(2), depth=2, batchnorm=True)
    images = torch.randn(6, 1, 8, 8)
    together, logits, last = network(images, groups=3)
    for index in range(3):
        alone, part, own = network(images[2 * index : 2 * index + 2])
        assert torch.allclose(logits[2 * index : 2 * index + 2], part, atol=1e-5)
        assert torch.allclose(last[2 * index : 2 * index + 2], own, atol=1e-5)
        for name in NAMES:
            assert torch.allclose(together[name][index], alone[name][0], atol=1e-5)


def test_a_bank_is_measured_once(inputs, monkeypatch):  # noqa: F811
    real, network = RealClasses(inputs, DEVICE, "dsa", 8), StatisticsNetwork(inputs.pool.load(0))
    first = real.banks([({"teacher": 0}, network)], 2)[0]
    other = RealClasses(inputs, DEVICE, "dsa", 4).banks([({"teacher": 0}, network)], 2)[0]
    assert not torch.equal(other["features0"], first["features0"]), "fewer images, another bank"
    monkeypatch.setattr(RealClasses, "_statistics", lambda *args: pytest.fail("it is in the store"))
    assert torch.equal(real.banks([({"teacher": 0}, network)], 2)[0]["features0"], first["features0"])


def test_banks_are_in_the_order_of_their_networks_in_whatever_order_they_are_measured(inputs, monkeypatch):  # noqa: F811
    real = RealClasses(inputs, DEVICE, "dsa", 8)
    named = [({"teacher": index}, StatisticsNetwork(inputs.pool.load(index))) for index in range(3)]
    monkeypatch.setattr(inputs, "unclaimed_first", lambda kind, contents: [2, 0, 1])
    together = real.banks(named, 2)
    monkeypatch.undo()
    for one, bank in zip(named, together, strict=True):
        assert torch.equal(bank["features0"], real.banks([one], 2)[0]["features0"])
    assert not torch.equal(together[0]["features0"], together[1]["features0"])


def test_batchnorm_statistics_need_batchnorm():
    with pytest.raises(UserError, match="no BatchNorm layer to match"):
        StatisticsNetwork(build_network("convnet2_w4_in", 3, 1, 8), batchnorm=True)
