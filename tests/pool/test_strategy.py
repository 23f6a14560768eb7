"""A pool strategy of a user's own package, as docs/own_method.md shows it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from teddy.config.errors import UserError
from teddy.data.images import TensorImages
from teddy.pool.post import PostPool
from teddy.pool.prior import PriorPool
from teddy.pool.single import SinglePool
from teddy.pool.trajectory import BaseTraining

PAGE = Path(__file__).resolve().parents[2] / "docs" / "own_method.md"


@pytest.fixture
def documented() -> Any:
    """The class in the documentation."""
    (block,) = (part for part in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "Strategy" in part)
    names: dict[str, Any] = {}
    exec(block, names)
    return names["Initialisations"]


def test_the_documented_strategy_works(tmp_path: Path, make_base: Callable[..., BaseTraining], documented: Any) -> None:
    base = make_base(tmp_path)
    ours = documented(size=2)
    ours.check(base)
    pool = ours.make(base)
    assert pool.description == "initialisations 3-3 (2)"
    assert len({member.file.read_bytes() for member in pool.members}) == 2
    assert pool.members[0] == PriorPool(3, 3, 1).make(base).members[0]  # the training of the run's own seed is shared
    assert pool.seconds == sum(member.seconds for member in pool.members) > 0
    with pytest.raises(UserError, match=r"pool\.strategy\.size=0"):
        documented(size=0).check(base)


def test_labels_are_those_of_the_tables() -> None:
    assert [kind.label for kind in (PriorPool, PostPool, SinglePool)] == ["prior", "post", "converged"]


def test_held_out_images_are_needed(tmp_path: Path, make_base: Callable[..., BaseTraining], fashion_mini: Any) -> None:
    class One:
        spec, test = fashion_mini.spec, fashion_mini.test
        train = TensorImages(fashion_mini.train.take(range(10)), fashion_mini.train.labels[:10].new_tensor(range(10)))

    with pytest.raises(UserError, match=r"no training image of fashion_mini can be held out"):
        make_base(tmp_path, dataset=One()).open_data(8)
