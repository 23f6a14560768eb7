"""Teachers from files: those of a set label as they did when the set was made."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest
import torch

from teddy import score
from teddy.config.build import build
from teddy.config.command import check_jobs, read_command
from teddy.config.errors import UserError
from teddy.config.schema import register_schemas
from teddy.factory import view_recipe
from teddy.runtime.device import DeviceConfig
from teddy.sets.pool import GivenPool
from tests.export.conftest import logits, make_set  # noqa: F401 - fixtures

register_schemas()


def test_a_scored_set_is_labelled_by_its_own_teachers_on_its_own_views(make_set, logits):  # noqa: F811
    opened = make_set("online")
    (config,) = check_jobs(read_command(score.score_words([str(opened.path), "--protocol", "paper"])))
    facts = opened.description.labels
    assert (config.labels.kind, config.labels.temperature, config.seed) == ("online", facts.temperature, facts.seed)
    assert view_recipe(config) == facts.view
    strategy = build("pool.strategy", config.pool.strategy)
    base = SimpleNamespace(dataset=SimpleNamespace(spec=opened.spec))
    strategy.check(base)
    pool = strategy.make(base)
    assert pool.description == "given 1-2 (2)"
    images = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    given = torch.stack([one(images) for one in pool.load_teachers(DeviceConfig("cpu", "32-true"))]).mean(0)
    assert torch.allclose(given, logits(opened, images), atol=1e-6)


def test_another_pool_may_be_chosen_for_a_scored_set(make_set):  # noqa: F811
    words = score.score_words([str(make_set("online").path), "pool=prior", "labels=stored", "dataset=cifar100"])
    (config,) = check_jobs(read_command(words))
    assert (config.labels.kind, config.dataset.name) == ("stored", "cifar100")
    assert config.pool.strategy["_target_"].endswith("PriorPool")


def test_the_name_of_the_pool_is_that_of_its_weights_wherever_they_lie(tmp_path, make_set):  # noqa: F811
    opened, base = make_set("online"), SimpleNamespace(dataset=SimpleNamespace(spec=None))
    before = GivenPool(str(opened.path)).make(base)
    assert before.members[0].identity == hashlib.sha256(before.members[0].file.read_bytes()).hexdigest()[:16]
    moved = opened.path.rename(tmp_path / "moved")
    assert GivenPool(str(moved)).make(base).fingerprint == before.fingerprint


@pytest.mark.parametrize("kind", ["hard", "stored"])
def test_a_set_without_teachers_is_no_pool(make_set, kind):  # noqa: F811
    with pytest.raises(UserError, match="holds no teachers"):
        GivenPool(str(make_set(kind).path)).check(None)
    with pytest.raises(UserError, match=r"pool\.strategy\.folder=None"):
        GivenPool(None).check(None)
