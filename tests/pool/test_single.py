"""One fully trained teacher is the base model and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from teddy.config.errors import UserError
from teddy.models.networks import build_network
from teddy.pool.prior import PriorPool
from teddy.pool.single import SinglePool
from teddy.pool.trajectory import BaseTraining

MakeBase = Callable[..., BaseTraining]


def test_trained_is_the_last_member_of_the_prior_pool(tmp_path: Path, make_base: MakeBase) -> None:
    base = make_base(tmp_path)
    strategy = SinglePool(base="trained")
    strategy.check(base)
    pool = strategy.make(base)
    prior = PriorPool(first=1, last=3, every=2).make(base)
    assert pool.members == prior.members[-1:]
    assert pool.description == "converged 3 (1)"
    assert pool.seconds == prior.seconds > 0
    assert len(base.store.made) == 1


def test_a_file_needs_no_training(tmp_path: Path, make_base: MakeBase) -> None:
    base = make_base(tmp_path)
    network = build_network("convnet3_w16", 10, 1, 28, seed=8)
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    pool = SinglePool(base=str(tmp_path / "mine.pth")).make(base)
    assert [artifact.kind for artifact in base.store.made] == ["base"]
    assert (pool.description, pool.seconds) == ("converged 0 (1)", 0.0)
    images = torch.randn(2, 1, 28, 28)
    assert torch.equal(pool.load(0)(images), network.eval()(images).detach())


def test_a_base_model_that_cannot_be_had_is_found_out_early(tmp_path: Path, make_base: MakeBase) -> None:
    base = make_base(tmp_path)
    with pytest.raises(UserError, match=r"pool\.base=pretrained"):
        SinglePool(base="pretrained").check(base)
    assert not base.store.root.exists()
