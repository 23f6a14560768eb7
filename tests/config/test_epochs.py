"""Which epochs are saved and which make a pool, against lists written by hand."""

from __future__ import annotations

import pytest

from teddy.config.epochs import member_epochs, saved_epochs
from teddy.config.errors import UserError

IMAGENET = [1, 6, 11, 16, 21, 26, 31, 36, 41, 46, 51, 56, 61, 66, 71]
TINY = [1, 6, 11, 16, 21, 26, 31, 36, 41, 46, 50]


@pytest.mark.parametrize(
    ("epochs", "save_every", "expected"),
    [
        (71, 5, IMAGENET),
        (50, 5, TINY),
        (4, 1, [1, 2, 3, 4]),
        (5, 2, [1, 3, 5]),
        (6, 2, [1, 3, 5, 6]),
        (3, 10, [1, 3]),
        (1, 1, [1]),
    ],
)
def test_first_and_last_epoch_are_always_saved(epochs, save_every, expected):
    assert saved_epochs(epochs, save_every) == expected


@pytest.mark.parametrize(
    ("first", "last", "saved", "expected"),
    [
        (1, 41, IMAGENET, [1, 6, 11, 16, 21, 26, 31, 36, 41]),
        (21, 61, IMAGENET, [21, 26, 31, 36, 41, 46, 51, 56, 61]),
        (31, 71, IMAGENET, [31, 36, 41, 46, 51, 56, 61, 66, 71]),
        (11, 46, TINY, [11, 16, 21, 26, 31, 36, 41, 46]),
        # 16 + 7 * 5 = 51 does not exist: the paper's pool of eight needs the last epoch, 50.
        (16, 50, TINY, [16, 21, 26, 31, 36, 41, 46, 50]),
        (71, 71, IMAGENET, [71]),
    ],
)
def test_members_of_the_papers_pools(first, last, saved, expected):
    assert member_epochs(first, last, 5, None, saved) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [(2, [1, 41]), (3, [1, 21, 41]), (5, [1, 11, 21, 31, 41]), (9, [1, 6, 11, 16, 21, 26, 31, 36, 41])],
)
def test_size_replaces_the_step_between_the_same_ends(size, expected):
    assert member_epochs(1, 41, 5, size, IMAGENET) == expected
    assert member_epochs(1, 41, 40, size, IMAGENET) == expected


def test_every_possible_size_gives_that_many_epochs_and_both_ends():
    for last in range(2, 16):
        for size in range(2, last + 1):
            members = member_epochs(1, last, 1, size, saved_epochs(last, 1))
            assert len(set(members)) == size
            assert members == sorted(members)
            assert (members[0], members[-1]) == (1, last)


def test_an_epoch_that_was_not_saved_is_refused_with_the_saved_ones():
    with pytest.raises(UserError, match=r"pool epochs 2, 4, 8, 10 .*\(1, 6, 11, …, 50\).*pool\.training\.save_every"):
        member_epochs(2, 10, 2, None, TINY)
    with pytest.raises(UserError, match=r"pool epochs 2 .*\(1, 3, 5\)"):
        member_epochs(1, 3, 1, None, [1, 3, 5])


def test_more_members_than_saved_epochs_are_refused():
    with pytest.raises(UserError, match=r"pool\.size=10 .* the 9 saved epochs from 1 to 41"):
        member_epochs(1, 41, 5, 10, IMAGENET)
