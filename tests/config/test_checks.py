"""Every rule of the configuration is broken once; the sentence must name the key and what is wrong with it."""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import replace
from typing import Any

import pytest

from teddy.config.checks import check, protocols, seeds
from teddy.config.errors import UserError
from teddy.config.schema import RULE, RULES, SearchConfig, TeddyConfig, walk

SEARCH = SearchConfig("teddy", 9, {"synthesis.lr": [0.1, 1.0]})


@pytest.fixture(scope="module")
def quickstart(jobs) -> TeddyConfig:
    (config,) = jobs("+experiment=quickstart")
    return config


def changed(config: TeddyConfig, values: dict[str, Any]) -> TeddyConfig:
    """A copy of ``config`` with other values under dotted keys."""
    config = copy.deepcopy(config)
    for key, value in values.items():
        *parents, last = key.split(".")
        node: Any = config
        for parent in parents:
            node = node[parent] if isinstance(node, dict) else getattr(node, parent)
        if isinstance(node, dict):
            node[last] = value
        else:
            assert hasattr(node, last), f"{key} is not in the schema"
            setattr(node, last, value)
    return config


def complaint(config: TeddyConfig, values: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        check(changed(config, values))
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


CASES = [
    # values from a list of words
    ({"dataset.augment.crop": "pad"}, "dataset.augment.crop='pad' is not known; choose one of padded, resized, none"),
    ({"pool.training.schedule": "poly"}, "pool.training.schedule='poly' is not known; choose one of step, cosine"),
    ({"synthesis.teacher_policy": "all"}, "synthesis.teacher_policy='all'"),
    ({"synthesis.initial": "zeros"}, "synthesis.initial='zeros' is not known; choose one of noise, real"),
    ({"labels.kind": "soft"}, "labels.kind='soft' is not known; choose one of online, stored, fixed, hard"),
    ({"labels.mix": "manifold"}, "labels.mix='manifold'"),
    ({"trainer.accelerator": "tpu"}, "trainer.accelerator='tpu'"),
    ({"trainer.precision": "float16"}, "trainer.precision='float16'"),
    (
        {"dataset.test_fraction": 0.2},
        "dataset.test_fraction is for folders of images, and fashion_mini has its own test",
    ),
    ({"dataset.test_fraction": 1.0}, "dataset.test_fraction=1.0 must lie between 0 and 1"),
    # a search
    ({"search": replace(SEARCH, trials=0)}, "search.trials=0 must be at least 1"),
    (
        {"search": replace(SEARCH, method="sre2l")},
        "search.method=sre2l is not among the methods of this run; add it with",
    ),
    ({"search": SEARCH, "stages": ["pool"]}, "add evaluation to stages"),
    ({"search": replace(SEARCH, values={})}, "search.values names no key"),
    ({"search": replace(SEARCH, values={"synthesis.lr": []})}, "search.values.synthesis.lr=[] names no candidate"),
    ({"search": replace(SEARCH, values={"method": ["[teddy]"]})}, "search.values.method is fixed by the search"),
    # ranges
    ({"synthesis.ipc": 0}, "synthesis.ipc=0 must be at least 1"),
    ({"evaluation.epochs": 0}, "evaluation.epochs=0 must be at least 1"),
    ({"labels.epochs": -1}, "labels.epochs=-1 must be at least 1"),
    ({"trainer.threads": 0}, "trainer.threads=0 must be at least 1"),
    ({"dataset.num_classes": 0}, "dataset.num_classes=0 must be at least 1"),
    ({"synthesis.lr": 0.0}, "synthesis.lr=0.0 must be greater than 0"),
    ({"synthesis.lr": float("nan")}, "synthesis.lr=nan must be greater than 0"),
    ({"labels.temperature": -1.0}, "labels.temperature=-1.0 must lie between 0.001 and 1,000"),
    ({"pool.training.gamma": 0.0}, "pool.training.gamma=0.0 must be greater than 0"),
    ({"synthesis.bn_weight": -0.1}, "synthesis.bn_weight=-0.1 must not be negative"),
    ({"seed": -1}, "seed=-1 must not be negative"),
    ({"labels.min_scale": 0.0}, "labels.min_scale=0.0 is a share"),
    ({"synthesis.view.min_scale": 1.1}, "synthesis.view.min_scale=1.1 is a share"),
    ({"labels.flip": 1.5}, "labels.flip=1.5 is a probability"),
    ({"dataset.holdout": 0.0}, "dataset.holdout=0.0 must lie between 0 and 1"),
    ({"dataset.holdout": 1.0}, "dataset.holdout=1.0 must lie between 0 and 1"),
    ({"synthesis.betas": [0.5]}, "synthesis.betas=[0.5] must be two numbers"),
    ({"synthesis.betas": [0.5, 1.0]}, "synthesis.betas=[0.5, 1.0] must be two numbers"),
    ({"name": "a/b"}, "name='a/b' names folders"),
    ({"name": ".."}, "name='..' names folders"),
    ({"name": ""}, "name='' names folders"),
    ({"name": "a" * 101}, "names folders; use letters, digits, '_', '-' and '.' only, at most 100."),
    ({"dataset.name": "a\nb"}, "dataset.name='a\\nb' holds a line break"),
    ({"dataset.class_names": ["a", "b\x00"]}, "dataset.class_names=['a', 'b\\x00'] holds a line break"),
    ({"dataset.name": ""}, "dataset.name='' must have at least 1"),
    ({"dataset.mean": [math.nan]}, "dataset.mean=[nan] must be finite numbers"),
    ({"dataset.std": [0.0]}, "dataset.std=[0.0] must be numbers greater than 0"),
    ({"dataset.std": [-1.0]}, "dataset.std=[-1.0] must be numbers greater than 0"),
    ({"dataset.size": 20_000}, "dataset.size=20000 must be at least 1 and at most 4,096 pixels"),
    ({"synthesis.lr": math.inf}, "synthesis.lr=inf must be greater than 0 and at most 10,000,000"),
    ({"synthesis.ipc": 100_000_000}, "synthesis.ipc=100000000 must be at least 1 and at most 10,000,000"),
    ({"labels.temperature": 1e-30}, "labels.temperature=1e-30 must lie between 0.001 and 1,000"),
    ({"seed": 10**22}, "must not be negative and below 2^63"),
    ({"labels.members": None}, "labels.members=None must be 'all' or a number"),
    # stages
    ({"stages": []}, "stages=[] leaves nothing to do"),
    ({"stages": ["pool", "pol"]}, "stages='pol' is not known; choose one of pool, synthesis, labels"),
    # what is plugged in
    ({"dataset.source": {"_target_": "os.system"}}, "dataset.source._target_ must name a class of this project"),
    ({"pool.strategy": None}, "pool.strategy._target_ must name a class of this project"),
    ({"pool.strategy": {"_target_": "teddyx.Pool"}}, "pool.strategy._target_ must name a class of this project"),
    ({"methods.mine": {"lr": 3}}, "methods.mine._target_ must name a class of this project"),
    ({"logger.mine": {"_target_": "print"}}, "logger.mine._target_ must name a class of this project"),
    ({"trainer.callbacks.mine": {"_target_": "os.system"}}, "trainer.callbacks.mine._target_ must name a class"),
    ({"methods": {}}, "method=[] leaves nothing to compare"),
    ({"methods.a/b": {}}, "method='a/b' names folders"),
    # the pool against its training
    ({"pool.first": 0}, "pool.first=0 must be at least 1"),
    ({"pool.first": 11}, "pool.first=11 must be at least 1 and at most pool.last=10"),
    ({"pool.every": 0}, "pool.every=0 must be at least 1"),
    ({"pool.size": 0}, "pool.size=0 must be at least 1"),
    ({"pool.last": 42}, "pool.last=42 lies beyond the training; lower it or raise pool.training.epochs=10"),
    ({"pool.training.warmup_epochs": 10}, "pool.training.warmup_epochs must be smaller than pool.training.epochs=10"),
    ({"pool.base": "trained", "pool.size": None}, "pool.size=null leaves the number of teachers open"),
    ({"evaluation.split": "train"}, "evaluation.split='train' is not known; choose one of test, heldout"),
    ({"paper": {"toy/teddy/convnet3/paper/ipc10": []}}, "must be [mean] or [mean,standard deviation]"),
    # teachers against the pool
    (
        {"synthesis.compile": True, "pool.base": "trained", "pool.size": 5},
        "synthesis.compile=true is for teachers of one shape, and those of this pool are pruned",
    ),
    ({"labels.members": "some"}, "labels.members='some' must be 'all' or a number"),
    ({"labels.members": 0}, "labels.members=0 must be 'all' or a number"),
    ({"pool.training.batch_size": 1}, "pool.training.batch_size=1 must be at least 2, as BatchNorm needs"),
    (
        {"dataset.resize": 20, "dataset.size": 28},
        "dataset.resize=20 leaves black borders around images of dataset.size=28",
    ),
    # stored labels against the classes
    ({"labels.top_k": 10}, "labels.top_k=10 must be less than the 10 classes of fashion_mini"),
    ({"labels.top_k": 3, "labels.kind": "online"}, "labels.top_k=3 is for stored labels, not online ones; set labels="),
    ({"labels.top_k": 3, "labels.kind": "hard"}, "labels.top_k=3 is for stored labels, not hard ones"),
    # students
    ({"evaluation.protocol": []}, "evaluation.protocol is empty; name some of paper, modern, dm"),
    ({"evaluation.protocol": "papre"}, "evaluation.protocol='papre' is not known; choose one of paper, modern"),
    ({"evaluation.protocol": ["paper", "x"]}, "evaluation.protocol='x' is not known"),
    ({"evaluation.protocol": 3}, "evaluation.protocol=3 must be a name or a list of names"),
    ({"evaluation.protocol": None}, "evaluation.protocol=None must be a name or a list of names"),
    ({"evaluation.protocols.paper.labels": "online"}, "evaluation.protocols.paper.labels='online'"),
    ({"evaluation.protocols.paper.augment": "none"}, "evaluation.protocols.paper.augment='none'"),
    ({"evaluation.protocols.paper.optimizer": "adam"}, "evaluation.protocols.paper.optimizer='adam'"),
    ({"evaluation.protocols.paper.schedule": "poly"}, "evaluation.protocols.paper.schedule='poly'"),
    ({"evaluation.protocols.paper.augment": "dsa"}, "evaluation.protocols.paper: soft labels belong to views"),
    ({"evaluation.protocols.modern.epochs": 0}, "evaluation.protocols.modern.epochs=0 must be at least 1"),
    ({"evaluation.protocols.modern.batch_size": 1}, "evaluation.protocols.modern.batch_size=1 must be at least 2"),
    ({"evaluation.protocols.modern.lr": 0.0}, "evaluation.protocols.modern.lr=0.0 must be greater than 0"),
    ({"evaluation.protocols.modern.eta": 0.0}, "evaluation.protocols.modern.eta=0.0 must be greater than 0"),
    ({"evaluation.protocols.modern.momentum": -0.9}, "evaluation.protocols.modern.momentum=-0.9 must not be negative"),
    ({"evaluation.batch_size": 1}, "evaluation.batch_size=1 must be at least 2"),
    ({"evaluation.students": []}, "evaluation.students=[] names no network"),
    ({"evaluation.seeds": 0}, "evaluation.seeds=0 must be a number of seeds"),
    ({"evaluation.seeds": 10**9}, "must be a number of seeds or a list of them, such as 3 or [0,1,2]; at most 1,000"),
    ({"evaluation.seeds": [10**22]}, "each below 2^63"),
    ({"evaluation.seeds": []}, "evaluation.seeds=[] must be a number of seeds"),
    ({"evaluation.seeds": "three"}, "evaluation.seeds='three' must be a number of seeds"),
    ({"evaluation.seeds": True}, "evaluation.seeds=True must be a number of seeds"),
    ({"evaluation.seeds": [0, "a"]}, "evaluation.seeds=[0, 'a'] must be a number of seeds or a list of them"),
    ({"evaluation.seeds": [0, -1]}, "evaluation.seeds=[0, -1] must be a number of seeds or a list of them"),
    ({"evaluation.seeds": [0, 1, 0]}, "evaluation.seeds=[0, 1, 0] names a seed twice"),
]


@pytest.mark.parametrize(("values", "fragment"), CASES, ids=lambda value: str(value)[:60])
def test_a_broken_rule_names_its_key(quickstart, values, fragment):
    assert fragment in complaint(quickstart, values)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"labels.top_k": 9},
        {"labels.top_k": 1},
        {"labels.top_k": None, "labels.kind": "online"},
        {"labels.top_k": 5000, "dataset.num_classes": None},  # only the data can tell
        {"pool.size": 9, "labels.members": 9},
        {"pool.first": 10, "pool.last": 10, "synthesis.teachers_per_block": 1, "labels.members": 1},
        {"labels.flip": 0.0, "labels.min_scale": 1.0, "synthesis.betas": [0.0, 0.0]},
        {"evaluation.protocol": "dm", "evaluation.seeds": [7]},
        {"evaluation.epochs": None, "trainer.threads": None},
    ],
    ids=str,
)
def test_the_edge_of_a_rule_is_allowed(quickstart, values):
    check(changed(quickstart, values))


def keys_of(rule: str) -> list[str]:
    """Keys of the schema with a rule, outside what the user names himself."""
    rules = {key: one.metadata.get(RULE) for key, _, one in walk(TeddyConfig()) if one is not None}
    return [key for key, known in rules.items() if known == RULES[rule]]


KEY = "0123456789" * 4


@pytest.mark.parametrize(
    "values",
    [
        {"logger.wandb.settings": {"api_key": KEY}},
        {"logger.wandb.token": "of a kind that nobody knows"},
        {"name": KEY},
        {"logger.wandb.project": f"{KEY} by mistake"},
        {"methods.teddy.title": KEY},
    ],
)
def test_no_api_key_is_in_a_configuration(quickstart, monkeypatch, values):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with pytest.raises(UserError, match=r"^\w+ holds an API key, .*`wandb login`") as caught:
        check(changed(quickstart, values))
    assert KEY not in str(caught.value)
    check(quickstart)


@pytest.mark.parametrize("key", keys_of("count"))
def test_counts_begin_at_one(quickstart, key):
    assert f"{key}=0 " in complaint(quickstart, {key: 0})


@pytest.mark.parametrize("key", keys_of("positive"))
def test_rates_are_above_zero(quickstart, key):
    assert f"{key}=0.0 " in complaint(quickstart, {key: 0.0})


@pytest.mark.parametrize("key", keys_of("weight"))
def test_weights_are_not_negative(quickstart, key):
    assert f"{key}=-1 " in complaint(quickstart, {key: -1})
    check(changed(quickstart, {key: 0}))


@pytest.mark.parametrize("key", keys_of("area"))
def test_areas_lie_above_zero_and_reach_one(quickstart, key):
    assert f"{key}=0.0 " in complaint(quickstart, {key: 0.0})
    check(changed(quickstart, {key: 1.0}))


def test_no_number_of_the_schema_is_unchecked(quickstart):
    """A negative, infinite or huge number under any numeric key is refused, whoever adds the key."""
    free = {"dataset.mean", "dataset.std", "paper"}  # read from data, or only printed

    def numeric(node: Any, prefix: str = "") -> list[str]:
        keys = []
        for name, value in node.items() if isinstance(node, dict) else vars(node).items():
            if dataclasses.is_dataclass(value) or (isinstance(value, dict) and "_target_" not in value):
                keys += numeric(value, f"{prefix}{name}.")
            elif isinstance(value, int | float) and not isinstance(value, bool):
                keys.append(prefix + name)
        return keys

    keys = [key for key in numeric(quickstart) if key not in free and not key.startswith("paper.")]
    assert "synthesis.ipc" in keys
    assert "evaluation.protocols.paper.lr" in keys
    for key in keys:
        for number in (-7, math.nan, math.inf, 10**23):
            complaint(quickstart, {key: number})


def test_one_protocol_or_several(quickstart):
    assert protocols(changed(quickstart, {"evaluation.protocol": "paper"})) == ["paper"]
    assert protocols(changed(quickstart, {"evaluation.protocol": ["modern", "paper"]})) == ["modern", "paper"]


def test_a_count_of_seeds_stands_for_the_first_ones(quickstart):
    assert seeds(changed(quickstart, {"evaluation.seeds": 3})) == [0, 1, 2]
    assert seeds(changed(quickstart, {"evaluation.seeds": [5, 2]})) == [5, 2]


def test_a_base_file_that_is_not_there_is_named(quickstart, tmp_path):
    (tmp_path / "here.pth").touch()
    check(changed(quickstart, {"pool.base": str(tmp_path / "here.pth"), "pool.size": 5}))
    sentence = complaint(quickstart, {"pool.base": "nowhere.pth", "pool.size": 5})
    assert sentence == "pool.base=nowhere.pth is no file; give trained, pretrained, or a file of weights."
