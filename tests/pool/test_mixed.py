"""The teachers of two pools together."""

from __future__ import annotations

from pathlib import Path

import pytest

from teddy.config.errors import UserError
from teddy.pool.few_shot import FewShotPool
from teddy.pool.mixed import MixedPool
from teddy.pool.prior import PriorPool
from tests.pool.test_few_shot import few_shot
from tests.pool.test_trajectory import base


def test_a_mixed_pool_has_the_members_of_both(tmp_path: Path) -> None:
    made = base(tmp_path, save_every=1)
    first, second = few_shot(), PriorPool(first=2, last=3, every=1)
    mixed = MixedPool(first, second)
    pool, few, prior = mixed.make(made), first.make(made), second.make(made)
    assert pool.members == few.members + prior.members
    assert pool.trajectories == few.trajectories + prior.trajectories
    assert [training.few_shot for training in pool.trajectories] == [True, True, False]
    assert pool.seconds == few.seconds + prior.seconds
    assert (pool.description, mixed.members([1, 2, 3])) == ("mixed 2-4 (6)", 6)
    assert mixed.trainings(made) == [*first.trainings(made), made]


def test_each_pool_is_checked(tmp_path: Path) -> None:
    wrong, right = few_shot(epochs=5), few_shot()
    for pair in [(wrong, right), (right, wrong)]:
        with pytest.raises(UserError, match="multiple of every"):
            MixedPool(*pair).check(base(tmp_path))
    MixedPool(right, right).check(base(tmp_path))


def test_a_part_that_is_no_strategy_is_refused() -> None:
    with pytest.raises(UserError, match="second of a mixed pool must have a _target_"):
        MixedPool(few_shot(), None)


def test_the_members_are_unknown_if_those_of_one_pool_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FewShotPool, "members", lambda self, saved: None)
    assert MixedPool(few_shot(), PriorPool(1, 2, 1)).members([1, 2]) is None
