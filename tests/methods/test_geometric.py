"""Coresets by geometry against slow versions, and on features whose answer is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from teddy.methods.geometric import Herding, KCentre, KMeans, k_means
from tests.methods.test_run import inputs, run_in  # noqa: F401 - a fixture

METHODS = (Herding, KCentre, KMeans)


def draw(n: int, dimensions: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, dimensions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_herding(features: np.ndarray, count: int) -> list[int]:
    chosen: list[int] = []
    while len(chosen) < count:
        rest = [i for i in range(len(features)) if i not in chosen]
        chosen.append(min(rest, key=lambda i: np.linalg.norm(features[[*chosen, i]].mean(0) - features.mean(0))))
    return chosen


def slow_kcentre(features: np.ndarray, count: int) -> list[int]:
    chosen = [min(range(len(features)), key=lambda i: np.linalg.norm(features[i] - features.mean(0)))]
    while len(chosen) < count:
        gap = [min(np.linalg.norm(one - features[c]) for c in chosen) for one in features]
        chosen.append(int(np.argmax(gap)))
    return chosen


@pytest.mark.parametrize(("method", "slow"), [(Herding, slow_herding), (KCentre, slow_kcentre)])
def test_greedy_choices_are_those_of_the_slow_version(method, slow):
    features = draw(40, 5)
    assert method(ipc=9).choose(features, 9, np.zeros(9)) == slow(features.numpy(), 9)


def test_farthest_first_is_within_twice_the_best_radius():
    """The bound of Gonzalez (1985), whatever the first centre is."""
    features = draw(12, 2)
    distances = torch.cdist(features, features)

    def radius(rows: list[int]) -> float:
        return float(distances[:, rows].min(1).values.max())

    best = min(radius(list(rows)) for rows in itertools.combinations(range(12), 3))
    assert radius(KCentre(ipc=3).choose(features, 3, np.zeros(3))) <= 2 * best


def test_k_means_ends_where_every_centre_is_the_mean_of_its_own():
    features = draw(200, 3)
    centres = k_means(features, np.random.default_rng(0).random(7))
    nearest = np.array([np.argmin([np.linalg.norm(one - c) for c in centres.numpy()]) for one in features.numpy()])
    for index, centre in enumerate(centres.numpy()):
        assert np.allclose(features.numpy()[nearest == index].mean(0), centre)


def test_the_start_of_k_means_is_drawn_by_squared_distance(monkeypatch):
    """Without steps, the centres are those drawn: the second one of 0, 1, 3 from 0 is 3 in nine of ten cases."""
    monkeypatch.setattr("teddy.methods.geometric._LLOYD_STEPS", 0)
    features = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)
    found = [k_means(features, np.array([0.1, uniform]))[1].item() for uniform in np.linspace(0.005, 0.995, 100)]
    assert (found.count(0.0), found.count(1.0), found.count(3.0)) == (0, 10, 90)
    assert [k_means(features, np.array([uniform])).item() for uniform in (0.0, 0.5, 0.99)] == [0.0, 1.0, 3.0]


def test_k_means_finds_far_clusters_and_takes_the_image_in_the_middle():
    centres = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]], dtype=torch.float64)
    around = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    features = (centres[:, None] + around).flatten(0, 1)
    assert sorted(KMeans(ipc=3).choose(features, 3, np.array([0.1, 0.5, 0.5]))) == [0, 5, 10]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [1, 5, 8])
def test_equal_features_give_different_images(method, count):
    features = torch.ones(8, 3, dtype=torch.float64)
    assert len(set(method(ipc=count).choose(features, count, np.full(count, 0.999)))) == count


@pytest.mark.parametrize("method", METHODS)
def test_the_features_are_the_last_members(inputs, tmp_path, monkeypatch, method):  # noqa: F811
    monkeypatch.setattr("teddy.data.batches.EVAL_BATCH", 7)
    seen = {}

    def keep(self, features, count, uniforms):
        seen[len(seen)] = features, uniforms
        return list(range(count))

    monkeypatch.setattr(method, "choose", keep)
    made = method(ipc=2).synthesize(inputs, run_in(tmp_path / "run"))
    assert made.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(made.images, inputs.train.images[[0, 3, 1, 4, 2, 5]])
    network = inputs.pool.load(3)
    for label, (features, uniforms) in seen.items():
        pixels = (inputs.train.images[label::3].float() / 255 - 0.4) / 0.3
        assert features.dtype == torch.float64
        assert torch.allclose(features, network.features(pixels).flatten(1).double(), atol=1e-5)
        assert len(set(uniforms)) == 2
    assert not np.array_equal(seen[0][1], seen[1][1]), "a class has its own random numbers"


@pytest.mark.parametrize("method", METHODS)
def test_a_class_smaller_than_ipc_starts_over(inputs, tmp_path, method):  # noqa: F811
    made = method(ipc=23).synthesize(inputs, run_in(tmp_path / "run"))
    assert len(made.images[:20].unique(dim=0)) == 20
    assert torch.equal(made.images[20:23], made.images[:3])
