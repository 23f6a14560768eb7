"""A share of each class set aside for the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from teddy.config.errors import UserError
from teddy.data.sources.listing import Samples, draw_test


def images(root: str, *counts: int) -> Samples:
    return [(f"{root}/c{label}/{index}.png", label) for label, count in enumerate(counts) for index in range(count)]


def counts(samples: Samples) -> list[int]:
    labels = [label for _, label in samples]
    return [labels.count(label) for label in sorted(set(labels))]


def relative(samples: Samples, root: str) -> set[str]:
    return {Path(path).relative_to(root).as_posix() for path, _ in samples}


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.2, [10, 2, 1, 1]), (0.5, [25, 6, 2, 1]), (0.99, [49, 11, 2, 1]), (0.01, [1, 1, 1, 1])],
)
def test_each_class_gives_its_share_at_least_one_and_never_the_last(share, expected):
    whole = images("/a", 50, 12, 3, 2)
    train, test = draw_test(whole, Path("/a"), share, 0)
    assert counts(test) == expected
    assert sorted(train + test) == sorted(whole)
    for part in (train, test):
        assert part == [one for one in whole if one in part]


def test_the_split_goes_by_seed_and_names_not_by_place_or_order():
    train, test = draw_test(images("/a", 50, 12), Path("/a"), 0.2, 0)
    moved = draw_test(images("/elsewhere/b", 50, 12)[::-1], Path("/elsewhere/b"), 0.2, 0)
    assert relative(moved[0], "/elsewhere/b") == relative(train, "/a")
    assert relative(moved[1], "/elsewhere/b") == relative(test, "/a")
    assert draw_test(images("/a", 50, 12), Path("/a"), 0.2, 1)[1] != test


def test_more_images_leave_most_of_the_test_images_where_they_are():
    before = {path for path, _ in draw_test(images("/a", 100), Path("/a"), 0.2, 0)[1]}
    after = {path for path, _ in draw_test(images("/a", 105), Path("/a"), 0.2, 0)[1]}
    assert len(after) == 21
    assert len(before - after) <= 5  # each of five new images can take the place of one


def test_a_single_image_cannot_be_split():
    with pytest.raises(UserError, match=r"c1/0\.png is the only image of its class, and dataset\.test_fraction"):
        draw_test(images("/a", 5, 1), Path("/a"), 0.2, 0)
