"""A corpus of bad values under the keys of a run: one sentence for all of them, never another exception."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from teddy.config.command import to_config
from teddy.config.errors import UserError
from teddy.config.messages import is_about_config, sentence
from teddy.config.paths import config_dir
from teddy.config.schema import register_schemas
from teddy.plan import make_plan

register_schemas()
RUN = (
    "+experiment=quickstart",
    "method=[teddy,classwise,dm,rded,mosaic,cad_prune,converged,dsa,idm,mtt,bptt,random]",
    "logger=[csv,wandb]",
)
VALUES = {
    "nan": math.nan,
    "inf": math.inf,
    "minus inf": -math.inf,
    "negative": -7,
    "tiny": 1e-300,
    "huge": 10**23,
    "huge float": 1e300,
    "empty": "",
    "word": "maybe",
    "long": "x" * 5000,
    "lines": "a\nb\x00",
    "unicode": "\u202eé∞😀",
    "null": None,
    "true": True,
    "list": [],
    "nested": [[{"a": math.nan}]],
    "mapping": {"_target_": "os.system"},
}
EVERY = 10
"""Each value is tried under every tenth key, and every key with one value or two: 400 cases."""
NOT_A_NUMBER = ("nan", "inf", "minus inf", "huge float")


@pytest.fixture(scope="module")
def run() -> DictConfig:
    """The composed configuration of a run with methods of all kinds."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("config", overrides=list(RUN))


def leaves(node: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a configuration that holds no mapping."""
    for key in node:
        if isinstance(node._get_node(key), DictConfig) and len(node._get_node(key)):
            yield from leaves(node[key], f"{prefix}{key}.")
        else:
            yield prefix + str(key)


def complaint(node: DictConfig, key: str, value: Any) -> str | None:
    """What is said about a value under a key, if anything is; what is no clear complaint is raised."""
    changed = copy.deepcopy(node)
    try:
        OmegaConf.update(changed, key, value, merge=False)
        make_plan(to_config(changed))
    except UserError as error:
        return str(error)
    except Exception as error:
        if not is_about_config(error):
            raise
        return sentence(error)
    return None


@pytest.mark.parametrize("name", VALUES)
def test_a_bad_value_is_one_sentence_or_harmless(run, name):
    keys = list(leaves(run))[list(VALUES).index(name) % EVERY :: EVERY]
    assert len(keys) >= 20
    bad = {}
    for key in keys:
        try:
            said = complaint(run, key, VALUES[name])
        except Exception as error:
            bad[key] = repr(error)[:300]
            continue
        if said is None and name in NOT_A_NUMBER and isinstance(OmegaConf.select(run, key), float):
            bad[key] = "is accepted"
        elif said is not None and ("\n" in said or "Traceback" in said):
            bad[key] = said
    assert bad == {}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("pool.strategy.last", "huge"),
        ("labels.members", "null"),
        ("evaluation.protocol", "nested"),
        ("methods.dm.pool", "word"),
        ("name", "long"),
        ("dataset.name", "lines"),
        ("evaluation.seeds", "huge"),
        ("search", "word"),
    ],
)
def test_what_once_went_wrong_is_refused(run, key, name):
    assert complaint(run, key, VALUES[name])
