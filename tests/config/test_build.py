"""A configuration names our own classes, with arguments that they take, and nothing else."""

from __future__ import annotations

import pytest

from teddy.config.build import build, own_target
from teddy.config.errors import BadInput
from teddy.pool.prior import PriorPool

PRIOR = {"_target_": "teddy.pool.prior.PriorPool", "first": 1, "last": 9}


def test_the_named_object_is_built_and_call_arguments_win():
    pool = build(PRIOR | {"every": 2}, every=4)
    assert isinstance(pool, PriorPool)
    assert (pool.first, pool.last, pool.every, pool.size) == (1, 9, 4, None)


@pytest.mark.parametrize(
    "target", ["os.system", "builtins.eval", "teddyx.pool.prior.PriorPool", "torch.nn.Linear", "", None, 3, ["teddy."]]
)
def test_a_target_outside_the_package_is_refused(target):
    with pytest.raises(BadInput, match=r"_target_ must name a class of this project \(teddy\.…\), not "):
        build({"_target_": target})


@pytest.mark.parametrize("node", [None, 3, "teddy.pool.prior.PriorPool", {}, {"first": 1}])
def test_a_node_without_a_target_is_refused_under_its_own_key(node):
    with pytest.raises(BadInput, match=r"^pool\.strategy\._target_ must name"):
        own_target("pool.strategy._target_", node)


def test_what_our_modules_import_is_not_ours(tmp_path):
    victim = tmp_path / "kept"
    victim.mkdir()
    with pytest.raises(BadInput, match="is not a class of this project"):
        build({"_target_": "teddy.artifacts.store.Path"})
    for target in ("teddy.artifacts.store.shutil.rmtree", "teddy.artifacts.store.os.rmdir"):
        with pytest.raises(BadInput, match="cannot be found"):
            build({"_target_": target, "path": str(victim)})
    assert victim.is_dir()


@pytest.mark.parametrize("target", ["teddy.pool.prior.Nope", "teddy.nope.PriorPool", "teddy.pool", "teddy."])
def test_an_unknown_target_is_named(target):
    with pytest.raises(BadInput, match=target.replace(".", r"\.")):
        build(PRIOR | {"_target_": target})


@pytest.mark.parametrize(
    ("arguments", "word"),
    [({"every": 1, "firsst": 3}, "'firsst'"), ({}, "'every'"), ({"every": 1, "_args_": [1]}, "_args_")],
)
def test_wrong_arguments_are_named_with_their_target(arguments, word):
    with pytest.raises(BadInput, match=rf"teddy\.pool\.prior\.PriorPool does not take these keys: .*{word}"):
        build(PRIOR | arguments)


def test_an_error_inside_the_constructor_is_not_taken_for_wrong_arguments():
    with pytest.raises(BadInput, match=r"dataset\.root has no effect"):
        build({"_target_": "teddy.data.sources.embedded.FashionMini", "root": "/somewhere"})
