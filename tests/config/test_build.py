"""A configuration names classes of ours, Lightning's or a plug-in's, with arguments that they take, and nothing else."""

from __future__ import annotations

import importlib
import sys

import pytest

from teddy.config.build import build, factory_of, import_plugins, plugins, target_of
from teddy.config.errors import UserError
from teddy.pool.prior import PriorPool
from teddy.pool.strategy import PoolStrategy
from teddy.synthesis.method import Method

PRIOR = {"_target_": "teddy.pool.prior.PriorPool", "first": 1, "last": 9, "every": 2}


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """The package ``mine`` with a class, a function and what it imports; ``mineral`` begins with the same letters."""
    text = (
        "import subprocess\nfrom subprocess import Popen\nfrom dataclasses import dataclass\n"
        "class Source:\n    def __init__(self, root=None):\n        self.root = root\n"
        "@dataclass\nclass Two:\n    number: int\n    source: object = None\n"
        "def remove(path=None):\n    raise AssertionError('called')\n"
        "instance = Source()\n"
    )
    for name in ("mine", "mineral"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TEDDY_ALLOW", "mine")
    importlib.invalidate_caches()
    yield "mine"
    for name in ("mine", "mineral"):
        sys.modules.pop(name, None)


def test_the_named_object_is_built():
    pool = build("pool.strategy", PRIOR, PoolStrategy)
    assert isinstance(pool, PriorPool)
    assert (pool.first, pool.last, pool.every, pool.size) == (1, 9, 2, None)


def test_nodes_inside_a_node_are_built_first_and_groups_are_taken_as_they_are(plugin):
    inner = {"_target_": "mine.Source", "root": "/x"}
    made = build("x", {"_target_": "mine.Two", "number": 3, "source": inner})
    assert (made.number, made.source.root) == (3, "/x")
    with pytest.raises(UserError, match=r"^x\.source\._target_ must name a class of this project"):
        build("x", {"_target_": "mine.Two", "number": 3, "source": {"_target_": "os.system", "command": "true"}})


def test_a_factory_takes_more_arguments_later():
    node = {"_target_": "lightning.pytorch.loggers.CSVLogger", "name": "curves"}
    made = factory_of("logger.csv", node)(save_dir="somewhere")
    assert (made.name, made.save_dir) == ("curves", "somewhere")
    with pytest.raises(UserError, match=r"^logger\.csv: .*CSVLogger does not take these keys: .*'nme'"):
        factory_of("logger.csv", {"_target_": node["_target_"], "nme": "curves"})


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "builtins.eval", "builtins.exec", "subprocess.Popen", "torch.nn.Linear", "torch.load"),
        *("teddyx.pool.prior.PriorPool", "teddy_evil.Pool", "lightning.pytorch.loggersx.Logger"),
        *("lightning.pytorch.Trainer", "lightning.fabric.utilities.cloud_io._load", "hydra.utils.instantiate"),
        *("mine.Source", "", " teddy.pool.prior.PriorPool", None, 3, ["teddy."], "..teddy"),
    ],
)
def test_a_target_of_another_package_is_refused_before_it_is_imported(target):
    with pytest.raises(UserError, match=r"^x\._target_ must name a class of this project \(teddy\.…\), of Lightning"):
        build("x", {"_target_": target})


@pytest.mark.parametrize("node", [None, 3, "teddy.pool.prior.PriorPool", {}, {"first": 1}])
def test_a_node_without_a_target_is_refused_under_its_own_key(node):
    with pytest.raises(UserError, match=r"^pool\.strategy\._target_ must name"):
        target_of("pool.strategy", node)


@pytest.mark.parametrize(
    "target",
    [
        "teddy.cli.main",
        "teddy.config.build.build",
        "teddy.config.build.import_plugins",
        "teddy.config.command.check_jobs",
        "teddy.artifacts.store.atomic_write",
        "teddy.artifacts.store.ArtifactStore.produce",
        "teddy.synthesis.method.Method",  # abstract
        "teddy.config.build.OWN",
        "teddy.config.build.__builtins__",
        "teddy.config.build.__loader__",
        "teddy.config.build.cache",
        "teddy.pool.prior",
        "teddy.cli.sys.exit",
        "teddy.config.build.os.system",
        "teddy.config.build.importlib.import_module",
        "teddy.artifacts.store.shutil.rmtree",
        "teddy.artifacts.store.os.rmdir",
        "teddy.config.build.importlib",
        "teddy.config.build.os",
        "lightning.pytorch.loggers.os.system",
    ],
)
def test_only_classes_can_be_named(target):
    with pytest.raises(UserError, match=r"is not a class|cannot be found"):
        build("x", {"_target_": target})


@pytest.mark.parametrize(
    "target",
    [
        "teddy.artifacts.store.Path",
        "teddy.config.build.Mapping",
        "teddy.config.build.partial",
        "teddy.pool.prior.__class__",
        "lightning.pytorch.loggers.wandb.Path",
        "lightning.pytorch.callbacks.model_checkpoint.Path",
    ],
)
def test_a_class_that_is_imported_from_elsewhere_is_refused(target):
    with pytest.raises(UserError, match=r"is defined in \S+; name a class where it is defined\.|is not a class"):
        build("x", {"_target_": target})


def test_a_plug_in_brings_its_own_classes_and_nothing_else(plugin):
    assert plugin in plugins()
    assert build("x", {"_target_": "mine.Source", "root": "/x"}).root == "/x"
    with pytest.raises(UserError, match="is defined in subprocess; name a class where it is defined"):
        build("x", {"_target_": "mine.Popen", "args": "true"})
    for name in ("remove", "instance", "subprocess"):
        with pytest.raises(UserError, match="is not a class"):
            build("x", {"_target_": f"mine.{name}"})
    with pytest.raises(UserError, match="must name a class"):
        build("x", {"_target_": "mineral.Source"})
    assert "mineral" not in sys.modules


def test_several_packages_are_allowed_for_later_processes_too(plugin, monkeypatch):
    monkeypatch.setenv("TEDDY_ALLOW", "mine, mineral,,mine")
    assert [name for name in plugins() if name.startswith("mine")] == ["mine", "mineral"]
    assert build("x", {"_target_": "mineral.Source"}).root is None
    import_plugins()
    monkeypatch.setenv("TEDDY_ALLOW", "nowhere_to_be_found")
    with pytest.raises(UserError, match=r"^the plug-in nowhere_to_be_found cannot be imported"):
        import_plugins()


@pytest.mark.parametrize("target", ["teddy.pool.prior.Nope", "teddy.nope.PriorPool", "teddy.pool.", "teddy.", "teddy"])
def test_an_unknown_target_is_named(target):
    with pytest.raises(UserError, match=rf"^x: _target_ {target} cannot be found".replace(".", r"\.")):
        build("x", PRIOR | {"_target_": target})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"firsst": 3}, "There is no key 'x.firsst'; PriorPool has first, last, every, size."),
        ({"_args_": [1]}, "There is no key 'x._args_'; PriorPool has first, last, every, size."),
        ({"every": "fast"}, "x.every='fast' must be a valid integer, unable to parse string as an integer."),
        ({"first": None}, "x.first=None must be a valid integer."),
    ],
)
def test_the_keys_of_a_dataclass_are_checked_against_its_fields(change, sentence):
    with pytest.raises(UserError) as caught:
        build("x", PRIOR | change)
    assert str(caught.value) == sentence


def test_a_key_without_a_value_and_an_object_of_another_kind():
    with pytest.raises(UserError, match=r"^x\.every has no value; set it in its file or write x\.every=VALUE\.$"):
        build("x", {"_target_": PRIOR["_target_"], "first": 1, "last": 2})
    with pytest.raises(
        UserError, match=r"^x: teddy\.pool\.prior\.PriorPool is not a Method; see docs/own_method\.md\.$"
    ):
        build("x", PRIOR, Method)


def test_keys_that_a_class_does_not_take_are_named():
    with pytest.raises(
        UserError, match=r"^x: teddy\.data\.sources\.cifar\.CIFAR10 does not take these keys: .*'firsst'"
    ):
        build("x", {"_target_": "teddy.data.sources.cifar.CIFAR10", "root": None, "firsst": 1})


def test_an_error_inside_the_constructor_is_not_taken_for_wrong_arguments():
    with pytest.raises(UserError, match=r"dataset\.root has no effect"):
        build("dataset.source", {"_target_": "teddy.data.sources.embedded.FashionMini", "root": "/somewhere"})
