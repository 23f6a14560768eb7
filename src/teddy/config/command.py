"""Checks a whole command line before Hydra writes anything: every job of a sweep is composed and checked first."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from teddy.config.checks import check
from teddy.config.errors import BadInput
from teddy.config.paths import config_dir
from teddy.config.schema import TeddyConfig

ASKS_ONLY = (
    *("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--resolve", "--package", "-p"),
    *("--info", "-i", "--shell-completion", "-sc"),
)
OTHER_PRIMARY = ("--config-path", "-cp", "--config-name", "-cn")


def names_experiment(argv: list[str]) -> bool:
    """Whether the command chooses an experiment, or its own primary configuration."""
    return any(word.lstrip("+").startswith("experiment=") or word.startswith(OTHER_PRIMARY) for word in argv)


def to_config(node: Any) -> TeddyConfig:
    """The composed configuration as our own dataclasses; below this call nobody sees OmegaConf.

    Raises:
        BadInput: a key was added (with ``+``) that nothing reads.
    """
    from omegaconf import OmegaConf

    config = OmegaConf.to_object(node)
    assert isinstance(config, TeddyConfig)
    _refuse_added_keys(config, "")
    return config


def _refuse_added_keys(node: Any, prefix: str) -> None:
    """Hydra's ``+key=value`` adds to a structured config whatever its schema says; such a key would do nothing."""
    known = {field.name for field in dataclasses.fields(node)}
    for name, value in vars(node).items():
        if name not in known:
            from teddy.config.messages import unknown_key

            raise BadInput(unknown_key(prefix + name))
        children = value.items() if isinstance(value, dict) else [("", value)]
        for key, child in children:
            if dataclasses.is_dataclass(child):
                _refuse_added_keys(child, f"{prefix}{name}.{key}." if key else f"{prefix}{name}.")


def check_command(argv: list[str]) -> None:
    """Composes and checks every job that a command line stands for.

    Raises:
        BadInput: a rule of :mod:`teddy.config.checks` is broken.
        Exception: Hydra's and OmegaConf's own errors for keys, types and files; see :mod:`teddy.config.messages`.
    """
    if any(word.split("=")[0] in ASKS_ONLY + OTHER_PRIMARY for word in argv):
        return
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    overrides, sweep = _split(argv)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        for job in _jobs(overrides, sweep):
            check(to_config(compose("config", overrides=job)))


def _split(argv: list[str]) -> tuple[list[str], bool]:
    """Overrides of a command line, and whether it asks for a multirun by flag."""
    overrides, sweep, words = [], False, iter(argv)
    for word in words:
        if word in ("--multirun", "-m"):
            sweep = True
        elif word in ("--config-dir", "-cd"):
            overrides.append(f"hydra.searchpath=[file://{Path(next(words, '.')).absolute()}]")
        elif word in ("--run", "-r", "--experimental-rerun"):
            continue
        else:
            overrides.append(word)
    return overrides, sweep


def _jobs(overrides: list[str], sweep: bool) -> list[list[str]]:
    """The overrides of each single job."""
    from hydra import compose
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.plugins.sweeper import Sweeper

    parsed = OverridesParser.create().parse_overrides(overrides)
    single = [word for word, override in zip(overrides, parsed, strict=True) if not override.is_sweep_override()]
    hydra_node = compose("config", overrides=single, return_hydra_config=True).hydra
    if not sweep and str(hydra_node.mode or "") != "RunMode.MULTIRUN":
        return [overrides]
    params = hydra_node.sweeper.get("params") or {}
    given = {override.get_key_element() for override in parsed}
    words = [f"{key}={value}" for key, value in params.items() if key not in given] + overrides
    assert issubclass(BasicSweeper, Sweeper)
    batches = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(words), max_batch_size=None)
    return [list(job) for batch in batches for job in batch]
