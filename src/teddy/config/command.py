"""Checks a whole command line before Hydra writes anything: every job of a sweep is composed and checked first."""

from __future__ import annotations

import dataclasses
import json
import os
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from teddy.config.checks import check
from teddy.config.errors import BadInput
from teddy.config.paths import config_dir
from teddy.config.schema import GROUPS, TeddyConfig

QUICKSTART = "+experiment=quickstart"


def read_command(argv: list[str]) -> tuple[Namespace, list[str]]:
    """A command line as Hydra's own parser reads it, and its words in an order that Hydra takes.

    Overrides and options may alternate (``+experiment=quickstart -m synthesis.ipc=1,10``), which Hydra alone would refuse.
    Without an experiment the quick start is run.

    Raises:
        BadInput: an option does not exist or lacks its value.
    """
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.error = _refuse_option  # type: ignore[method-assign]
    args = parser.parse_intermixed_args(argv)
    if args.experimental_rerun:
        raise BadInput(
            "--experimental-rerun would load a pickle; give the lines of .hydra/overrides.yaml again instead."
        )
    if args.resolve and not (args.cfg or args.help):
        raise BadInput("--resolve belongs to --cfg; write --cfg job --resolve.")
    if (args.run, args.multirun, bool(args.cfg), args.shell_completion, bool(args.info)).count(True) > 1:
        raise BadInput("Only one of --run, --multirun, --cfg, --info and --shell-completion can be given.")
    if args.config_dir and not Path(args.config_dir).is_dir():
        raise BadInput(f"--config-dir {args.config_dir} is not a folder; name one with folders like conf/ has.")
    options = list(argv)
    for word in args.overrides:
        options.remove(word)
    args.overrides = [_with_home(word) for word in args.overrides]
    chosen = any(word.lstrip("+").startswith("experiment=") for word in args.overrides)
    if not chosen and not _other_primary(args):
        args.overrides.append(QUICKSTART)
    return args, [*args.overrides, *options]


def _with_home(word: str) -> str:
    """``dataset.root=~/data`` with the home folder: shells leave it as it is there, and Hydra cannot read it."""
    key, equals, value = word.partition("=")
    return key + equals + os.path.expanduser(value)


def _refuse_option(message: str) -> NoReturn:
    raise BadInput(f"{message}; 'python -m teddy --hydra-help' lists the options.")


def _other_primary(args: Namespace) -> bool:
    return args.config_path is not None or args.config_name is not None


def to_config(node: Any) -> TeddyConfig:
    """The composed configuration as our own dataclasses; below this call nobody sees OmegaConf.

    Raises:
        BadInput: a key was added (with ``+``) that nothing reads, or the primary configuration does not use our schema.
    """
    from omegaconf import OmegaConf

    config = OmegaConf.to_object(node)
    if not isinstance(config, TeddyConfig):
        raise BadInput("The primary configuration has no schema; let it begin with 'defaults: [schema, ...]'.")
    _refuse_added_keys(config, "")
    return config


def to_yaml(config: TeddyConfig) -> str:
    """The whole configuration as YAML, every key resolved."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(dataclasses.asdict(config)))


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


def plain_help(args: Namespace) -> list[Path] | None:
    """The further config folders of a command line that asks for help and changes nothing; None if Hydra has to answer."""
    if not args.help or args.overrides != [QUICKSTART] or _other_primary(args):
        return None
    return [Path(args.config_dir)] if args.config_dir else []


def check_command(args: Namespace) -> list[TeddyConfig]:
    """Composes and checks every job that a command line stands for; none if it only asks, as ``--help`` does.

    Raises:
        BadInput: a rule of :mod:`teddy.config.checks` is broken.
        Exception: Hydra's and OmegaConf's own errors for keys, types and files; see :mod:`teddy.config.messages`.
    """
    only_asks = args.help or args.hydra_help or args.cfg or args.resolve or args.info or args.shell_completion
    if only_asks or _other_primary(args):
        return []
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    overrides = [*args.overrides, *_searchpath(args)]
    configs = []
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        for node in _jobs(overrides, args.multirun):
            configs.append(to_config(node))
            check(configs[-1])
    return configs


def sweep_overrides(args: Namespace) -> list[str]:
    """What to add to the command line so that it wins over the sweep file where both name a key.

    Hydra's own sweeper would multiply the two instead: ``+sweep=ipc synthesis.ipc=5`` would run three times the same job.
    """
    from hydra import initialize_config_dir

    if not any(word.lstrip("+").startswith("sweep=") for word in args.overrides):
        return []
    parsed, single = _parsed(args.overrides)
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        head = _compose([*single, *_searchpath(args)], return_hydra_config=True)
    words = _sweep_words(head, parsed)
    if len(words) == len(head.hydra.sweeper.get("params") or {}):
        return []
    return [*words, "hydra.sweeper.params=null"]


def _parsed(overrides: list[str]) -> tuple[list[Any], list[str]]:
    """Overrides as Hydra reads them, and the words of those that stand for one value."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(overrides)
    return parsed, [word for word, one in zip(overrides, parsed, strict=True) if not one.is_sweep_override()]


def _sweep_words(head: Any, given: list[Any]) -> list[str]:
    """The overrides of a sweep file, without those that the command line gives itself."""
    params = head.hydra.sweeper.get("params") or {}
    keys = {override.get_key_element() for override in given}
    return [f"{key}={value}" for key, value in params.items() if key not in keys]


def _searchpath(args: Namespace) -> list[str]:
    if not args.config_dir:
        return []
    place = f"file://{Path(args.config_dir).absolute()}"
    return [f"hydra.searchpath=[{json.dumps(place, ensure_ascii=False)}]"]


def _compose(overrides: list[str], **how: bool) -> Any:
    """Hydra's composition; the plain ValueErrors among its errors are about the user's files and words as well."""
    from hydra import compose
    from omegaconf.errors import OmegaConfBaseException

    try:
        return compose("config", overrides=overrides, **how)
    except ValueError as error:
        if isinstance(error, OmegaConfBaseException):
            raise
        raise BadInput(f"{error}.") from error


def _jobs(overrides: list[str], multirun: bool) -> Iterator[Any]:
    """Each job's composed configuration, as Hydra's basic sweeper would make them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from omegaconf import open_dict

    parsed, single = _parsed(overrides)
    for override in parsed:
        if override.key_or_group in (*GROUPS, "experiment", "sweep") and isinstance(override.value(), int | float):
            raise BadInput(f"{override.input_line} must name a file in conf/{override.key_or_group}.")
    head = _compose(single, return_hydra_config=True)
    if not multirun and str(head.hydra.mode or "") != "RunMode.MULTIRUN":
        if single != overrides:
            _compose(overrides)  # raises: several values without -m
        with open_dict(head):
            del head["hydra"]
        yield head
        return
    words = _sweep_words(head, parsed) + overrides
    batches = BasicSweeper.split_arguments(_parsed(words)[0], max_batch_size=None)
    for batch in batches:
        for job in batch:
            yield _compose(list(job))
