"""Teachers from files: those of a set label as they did when the set was made."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from teddy import score
from teddy.config.build import build
from teddy.config.command import check_jobs, read_command
from teddy.config.errors import UserError
from teddy.config.schema import register_schemas
from teddy.factory import view_recipe
from teddy.pool.given import GivenPool
from teddy.runtime.device import DeviceConfig
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


def test_the_name_of_the_pool_changes_with_the_weights_and_not_with_their_place(tmp_path, make_set):  # noqa: F811
    base = SimpleNamespace(dataset=SimpleNamespace(spec=None))

    def name(folder):
        teacher = {"network": "convnet2_w4", "epoch": 1, "top1_holdout": 0, "file": str(folder / "00.safetensors")}
        node = {"_target_": f"{GivenPool.__module__}.GivenPool", "teachers": [teacher]}
        return build("pool.strategy", node).make(base).fingerprint

    before = name(make_set("online").path / "teachers")
    moved = (tmp_path / "set" / "teachers").rename(tmp_path / "moved")
    assert name(moved) == before
    (moved / "00.safetensors").unlink()
    (moved / "01.safetensors").rename(moved / "00.safetensors")
    assert name(moved) != before


def test_a_pool_without_files_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"pool\.strategy\.teachers=\[\] names no teacher"):
        GivenPool([]).check(None)
    node = {"_target_": f"{GivenPool.__module__}.GivenPool"}
    teacher = {"network": "convnet2_w4", "epoch": 1, "top1_holdout": 0, "file": str(tmp_path / "no")}
    with pytest.raises(UserError, match="no is no file"):
        build("pool.strategy", node | {"teachers": [teacher]}).check(None)
