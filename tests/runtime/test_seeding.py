"""Counter-based random numbers against published outputs and the statistics that they must have."""

from __future__ import annotations

import hashlib
import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from teddy.runtime.seeding import generator, permutation, seed_torch, splitmix64, stable_seed, uniform

GOLDEN = 0x9E3779B97F4A7C15
REFERENCE = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]


def slow_splitmix64(state: int) -> int:
    """The published C function with Python's integers: advance by the golden gamma, then mix."""
    mask = (1 << 64) - 1
    z = (state + GOLDEN) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_splitmix64_is_the_published_generator() -> None:
    states = np.array([(1234567 + k * GOLDEN) % 2**64 for k in range(5)], np.uint64)
    assert splitmix64(states).tolist() == REFERENCE
    assert [slow_splitmix64(int(state)) for state in states] == REFERENCE


def test_stable_seed_is_the_hash_of_its_keys() -> None:
    digest = hashlib.sha256(b"int:1\x1fstr:views\x1fint:-3").digest()
    assert stable_seed(1, "views", -3) == int.from_bytes(digest[:8], "little") // 2
    assert stable_seed(0) == 8482559467159178675  # printf int:0 | sha256sum
    assert 0 <= stable_seed("anything") < 2**63


@pytest.mark.parametrize(
    ("one", "other"),
    [((1,), ("1",)), ((1, 2), (12,)), ((1, 2), (2, 1)), (("a", "b"), ("ab",)), ((0,), (1,)), (("a",), ("a", "a"))],
)
def test_different_keys_draw_different_numbers(one: tuple, other: tuple) -> None:
    assert stable_seed(*one) != stable_seed(*other)
    ids = np.arange(2000)
    first, second = (uniform(*keys, samples=ids)[:, 0] for keys in (one, other))
    assert not np.isin(first, second).any()
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / math.sqrt(2000)


def test_uniform_is_splitmix_of_key_sample_and_draw() -> None:
    ids, mask = [0, 1, 7, 2**40], (1 << 64) - 1
    found = uniform(3, "crop", samples=np.array(ids), draws=5)
    assert found.shape == (4, 5)
    base = slow_splitmix64(stable_seed(3, "crop"))
    for row, sample in enumerate(ids):
        state = slow_splitmix64(sample ^ base)
        for draw in range(5):
            expected = (slow_splitmix64((state + draw * GOLDEN) & mask) >> 11) / 2**53
            assert found[row, draw] == expected


def test_a_sample_draws_the_same_in_every_batch() -> None:
    whole = uniform(1, "x", samples=np.arange(50), draws=4)
    some = np.array([49, 3, 3, 17])
    assert np.array_equal(uniform(1, "x", samples=some, draws=4), whole[some])
    assert np.array_equal(uniform(1, "x", samples=some, draws=2), whole[some, :2])
    assert np.array_equal(uniform(1, "x", draws=4), whole[:1])
    assert uniform(1, "x", samples=np.array([], np.int64), draws=4).shape == (0, 4)


@pytest.mark.parametrize("axis", ["samples", "draws", "keys"])
def test_numbers_are_uniform_and_independent_along_every_axis(axis: str) -> None:
    n = 20_000
    numbers = {
        "samples": lambda: uniform(0, "u", samples=np.arange(n))[:, 0],
        "draws": lambda: uniform(0, "u", draws=n)[0],
        "keys": lambda: np.array([uniform(key, "u")[0, 0] for key in range(n)]),
    }[axis]()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert abs(numbers.mean() - 1 / 2) < 4 / math.sqrt(12 * n)
    assert abs(numbers.var() - 1 / 12) < 4 * math.sqrt(1 / 180 / n)
    # Kolmogorov and Smirnov: beyond 1.95 / sqrt(n) with a chance of one in a thousand.
    ordered, steps = np.sort(numbers), np.arange(n + 1) / n
    assert max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()) < 1.95 / math.sqrt(n)
    for lag in (1, 2, 3):
        assert abs(np.corrcoef(numbers[:-lag], numbers[lag:])[0, 1]) < 4 / math.sqrt(n)


def test_permutation_is_one_and_is_named_by_its_keys() -> None:
    order = permutation(1000, 4, "order", 7)
    assert sorted(order.tolist()) == list(range(1000))
    assert np.array_equal(order, permutation(1000, 4, "order", 7))
    assert not np.array_equal(order, permutation(1000, 4, "order", 8))
    draws = uniform(4, "order", 7, samples=np.arange(1000))[:, 0]
    assert all(draws[a] < draws[b] for a, b in pairwise(order))
    assert permutation(0, 1).tolist() == []


def test_permutations_are_equally_likely() -> None:
    counts: dict[tuple[int, ...], int] = {}
    for key in range(4800):
        order = tuple(permutation(4, key, "order").tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    chi_square = sum((count - 200) ** 2 / 200 for count in counts.values())
    assert chi_square < 49.7  # 23 degrees of freedom, one in a thousand


def test_generator_is_reproducible_and_fresh() -> None:
    first, again, other = generator(1, "noise"), generator(1, "noise"), generator(2, "noise")
    numbers = torch.randn(5, generator=first)
    assert torch.equal(numbers, torch.randn(5, generator=again))
    assert not torch.equal(numbers, torch.randn(5, generator=other))
    assert not torch.equal(numbers, torch.randn(5, generator=first))


def test_seed_torch_names_what_layers_draw() -> None:
    with torch.random.fork_rng(devices=[]):
        layer, ones = torch.nn.Dropout(0.5), torch.ones(100)
        seed_torch(1, "student", 0)
        first = layer(ones)
        second = layer(ones)
        seed_torch(1, "student", 0)
        assert torch.equal(layer(ones), first)
        assert not torch.equal(first, second)
        seed_torch(1, "student", 1)
        assert not torch.equal(layer(ones), first)
