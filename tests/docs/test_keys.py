"""The key reference has every key that Hydra composes, each with meaning, values and default."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pydantic import Field

import commented
import keys
from teddy.config.build import build
from teddy.config.schema import register_schemas
from teddy.config.types import Positive
from teddy.synthesis.method import Method

register_schemas()

TABLES = keys.key_tables()
NAMING = ("method", "logger")
ROWS = {row.key: row for table in TABLES for row in table.rows}


def leaves(node: Any, prefix: str = "") -> set[str]:
    if not isinstance(node, dict) or not node:
        return {prefix}
    return {key for name, child in node.items() for key in leaves(child, f"{prefix}.{name}" if prefix else name)}


@pytest.fixture(scope="module")
def configs() -> list[dict[str, Any]]:
    """What Hydra composes of every option that brings keys of its own, interpolations not followed."""
    options: dict[str, list[str]] = {}
    for table in TABLES:
        if table.option and table.option != "protocols" and table.group not in NAMING:
            options.setdefault(table.group, []).append(table.option)
    methods = [option for table in TABLES if table.group == "method" and "/" not in (option := table.option)]
    words = [[f"method=[{','.join(methods)}]", "logger=[csv,wandb,tensorboard,mlflow]"], ["+search=classwise"]]
    words += [["evaluation=detection", "method=detection/sre2l"], ["model=resnet18", "labels=hard", "trainer=ddp"]]
    groups = [[f"{group}={name}" for name in names] for group, names in options.items()]
    words += [[one for one in column if one] for column in itertools.zip_longest(*groups)]
    with initialize_config_dir(str(commented.CONF), version_base="1.3"):
        found = [OmegaConf.to_container(compose("config", overrides=one), resolve=False) for one in words]
    return cast(list[dict[str, Any]], found)


@pytest.fixture(scope="module")
def composed(configs: list[dict[str, Any]]) -> set[str]:
    """The keys of all of them."""
    inside = ("search.values", "search.shared")  # keys of other groups
    found = {key for config in configs for key in leaves(config)}
    return {key for key in found if not key.endswith("_target_") and not key.startswith(inside)}


def test_no_cell_is_empty() -> None:
    assert len(ROWS) > 400
    for table in TABLES:
        for row in table.rows:
            assert all(cell.strip("` ") or cell == '`""`' for cell in dataclasses.astuple(row)), row


def test_every_key_that_is_composed_is_in_the_reference(composed: set[str]) -> None:
    nothing_chosen = {"methods", "logger", "search"}
    assert composed - nothing_chosen - set(ROWS) == set()


def test_every_key_of_the_reference_exists(composed: set[str]) -> None:
    """What no file sets is taken by the class that a file names, at the default of the reference."""
    alone = [key for key in ROWS if key not in composed and not key.startswith("search.")]
    assert all(key.startswith("methods.") for key in alone)
    names = {key.split(".")[1] for key in alone}
    with initialize_config_dir(str(commented.CONF), version_base="1.3"):
        nodes: Any = OmegaConf.to_container(compose("config", [f"method=[{','.join(names)}]"]).methods, resolve=True)
    for key in alone:
        _, name, *place, last = key.split(".")
        node = nodes[name]
        for part in place:
            node = node[part]
        node[last] = yaml.safe_load(ROWS[key].default.strip("`"))
    assert alone
    for name in names:
        build(f"methods.{name}", nodes[name], Method)


def test_defaults_are_those_that_hydra_composes() -> None:
    with initialize_config_dir(str(commented.CONF), version_base="1.3"):
        config = compose("config")
        for group in ("synthesis", "labels", "trainer", "pool", "dataset"):
            node = OmegaConf.to_container(config[group], resolve=False)
            for key in leaves(node):
                value: Any = node
                for part in key.split("."):
                    value = value[part]
                row = ROWS.get(f"{group}.{key}")
                if row and not key.startswith(("strategy", "source")):
                    assert yaml.safe_load(row.default.strip("`")) == value, key


FILE = """\
# @package methods.mine
# What the file is for,
# in two lines.
_target_: somewhere.Mine
lr: 0.1   # its rate
# Above the key.
betas: [0.5, 0.9]
view: {crop: true, size: "a # b"}   # of both
pool:   # of its own
  first: ${..lr}
"""


def test_comments_are_found_beside_and_above_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "method" / "mine.yaml"
    path.parent.mkdir()
    path.write_text(FILE)
    monkeypatch.setattr(commented, "CONF", tmp_path)
    assert commented.head(path) == "What the file is for, in two lines."
    found = {key: (entry.value, entry.comment) for key, entry in commented.read(path).items()}
    assert found == {
        "methods.mine._target_": ("somewhere.Mine", ""),
        "methods.mine.lr": ("0.1", "its rate"),
        "methods.mine.betas": ("[0.5, 0.9]", "Above the key."),
        "methods.mine.view": (None, "of both"),
        "methods.mine.view.crop": ("true", ""),
        "methods.mine.view.size": ('"a # b"', ""),
        "methods.mine.pool": (None, "of its own"),
        "methods.mine.pool.first": ("${..lr}", ""),
    }


def test_a_file_inherits_keys_and_comments_and_replaces_whole_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "_base.yaml").write_text("# A base.\nsize: 1   # members\nnode:\n  a: 1   # first\n")
    child = tmp_path / "pool" / "child.yaml"
    child.write_text("# A child.\ndefaults: [_base, _self_]\nsize: 2\nnode: null\n")
    monkeypatch.setattr(commented, "CONF", tmp_path)
    found = {key: (entry.value, entry.comment) for key, entry in commented.read(child).items()}
    assert found == {"pool.size": ("2", "members"), "pool.node": ("null", "")}


def test_a_value_that_is_taken_from_another_key_has_its_meaning() -> None:
    known = {"synthesis.lr": "a rate", "pool.size": "members"}
    assert keys.meaning("methods.a.lr", keys.Entry("${synthesis.lr}", ""), known, "of the class") == "a rate"
    assert keys.meaning("pool.strategy.size", keys.Entry("${..size}", ""), known) == "members"
    assert keys.meaning("methods.a.lr", keys.Entry("${synthesis.lr}", "its own"), known) == "its own"
    assert keys.meaning("methods.a.lr", keys.Entry("3", ""), known, "of the class") == "of the class"


@pytest.mark.parametrize(
    ("hint", "rule", "words"),
    [
        (int, "", "whole number"),
        (float | None, "", "number, or null"),
        (Literal["a", "b"], "", "`a`, `b`"),
        (Positive, "", "number, above 0"),
        (Annotated[Positive, Field(le=0.5)], "", "number, above 0, at most 0.5"),
        (tuple[Positive, Positive], "", "2 numbers, each above 0"),
        (str, "is not known; choose one of noise, real", "`noise`, `real`"),
        (int | None, "must be at least 1 and at most 10,000,000", "whole number, at least 1, or null"),
    ],
)
def test_types_in_words(hint: Any, rule: str, words: str) -> None:
    assert keys.values(hint, rule) == words
