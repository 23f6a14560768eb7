"""Which teachers of a pool answer when not all of them do (Fig. 3b)."""

from __future__ import annotations

from collections.abc import Callable

from teddy.runtime import seeding

MemberPolicy = Callable[[int, int, int], list[int]]


def _spread(size: int, count: int, seed: int) -> list[int]:
    if count == 1:
        return [size - 1]
    return [round(i * (size - 1) / (count - 1)) for i in range(count)]


def _random(size: int, count: int, seed: int) -> list[int]:
    return sorted(seeding.permutation(size, seed, "label members")[:count].tolist())


def _last(size: int, count: int, seed: int) -> list[int]:
    return list(range(size - count, size))


MEMBER_POLICIES: dict[str, MemberPolicy] = {"spread": _spread, "random": _random, "last": _last}
"""``count`` of ``size`` teachers by their places in the pool, early to late: evenly spread from the first to the last (one is the
last), drawn once by the seed (a larger draw holds the smaller ones), or the latest. The paper does not say which it took."""
