"""The command line: its words in an order that Hydra takes, and the check of every job of a sweep before the first one runs."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from teddy.config.build import ALLOWED, import_plugins
from teddy.config.checks import check
from teddy.config.errors import UserError
from teddy.config.foreign import check_hydra
from teddy.config.messages import unknown_key
from teddy.config.paths import config_dir, options
from teddy.config.schema import TeddyConfig, walk

QUICKSTART = "+experiment=quickstart"
LONG = {
    **{"-cd": "--config-dir", "-cp": "--config-path", "-cn": "--config-name", "-p": "--package", "-c": "--cfg"},
    **{"-h": "--help", "-r": "--run", "-m": "--multirun", "-i": "--info", "-sc": "--shell-completion"},
}
WITH_VALUE = ("--allow", "--config-dir", "--config-path", "--config-name", "--package", "--cfg")
FLAGS = ("--help", "--hydra-help", "--version", "--resolve", "--run", "--multirun", "--info", "--shell-completion")
SEARCH_WORDS = ("hydra.mode=MULTIRUN", "hydra/sweeper=search", "~hydra.callbacks.sweep_report")
"""What makes Hydra run a search, which reports on its own."""
MOST_JOBS = 1000  # jobs of a sweep, at most
_PLAIN = re.compile(r"(?!(?:null|true|false)$)[A-Za-z_][\w./-]*")  # words that mean themselves
ASKS = ("--help", "--hydra-help", "--cfg", "--info", "--shell-completion")


@dataclasses.dataclass(frozen=True)
class Command:
    """A command line, taken apart: overrides, Hydra's options by their long names, each with its value or an empty string, and
    whether only the plan of the run is wanted.
    """

    overrides: tuple[str, ...]
    named: dict[str, str]
    plans: bool = False

    @property
    def options(self) -> list[str]:
        return [f"{name}={value}" if value else name for name, value in self.named.items()]

    @property
    def asks(self) -> bool:
        """Whether it only shows something, such as ``--help`` and ``--cfg job``."""
        return any(name in ASKS for name in self.named)

    @property
    def multirun(self) -> bool:
        mode = [word.partition("=")[2] for word in self.overrides if word.startswith("hydra.mode=")]
        swept = "--multirun" in self.named or any(word.startswith("+sweep=") for word in self.overrides)
        return mode[-1] == "MULTIRUN" if mode else swept

    @property
    def searches(self) -> bool:
        """Whether it is a search that is yet to be checked; the processes that a search starts are given all its words."""
        named = any(word.startswith("+search=") for word in self.overrides)
        return named and not self.asks and not set(SEARCH_WORDS) <= set(self.overrides)

    @property
    def folder(self) -> Path | None:
        return Path(self.named["--config-dir"]) if "--config-dir" in self.named else None

    @property
    def foreign(self) -> bool:
        """Whether it reads YAML files that are not this project's."""
        searched = any(word.lstrip("+").startswith("hydra.searchpath") for word in self.overrides)
        return searched or not {"--config-dir", "--config-path"}.isdisjoint(self.named)


def read_command(argv: Sequence[str]) -> Command:
    """Take a command line apart; without an experiment it is the quick start's.

    Overrides and options may alternate, which Hydra alone would refuse. Two options are ours: ``--allow PACKAGE`` allows a
    plug-in for this command and the processes that it starts, ``--plan`` shows the plan of a run.
    """
    overrides: list[str] = []
    named: dict[str, str] = {}
    plans = False
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        name = LONG.get(name, name)
        if name in WITH_VALUE:
            value = value if equals else next(words, "")
            if not value:
                raise UserError(f"{name} needs a value; 'python -m teddy --hydra-help' lists the options.")
            if name == "--allow":
                os.environ[ALLOWED] = ",".join(filter(None, (os.environ.get(ALLOWED), value)))
            else:
                named[name] = value
        elif name == "--plan":
            plans = True
        elif name in FLAGS:
            named[name] = value
        elif name.startswith("--experimental-rerun"):
            raise UserError("--experimental-rerun would load a pickle; type the command of run.json again instead.")
        elif word.startswith("-"):
            raise UserError(f"There is no option {name}; 'python -m teddy --hydra-help' lists them.")
        elif named.get("--info") == "" and not equals:
            named["--info"] = word
        else:  # shells leave ~ after a "=" as it is, and Hydra cannot read it
            overrides.append(name + equals + os.path.expanduser(value))
    if "--config-dir" in named and not Path(named["--config-dir"]).is_dir():
        raise UserError(f"--config-dir {named['--config-dir']} is not a folder; name one with folders like conf/ has.")
    chosen = any(word.lstrip("+").startswith("experiment=") for word in overrides)
    if not chosen and {"--config-name", "--config-path", "--shell-completion"}.isdisjoint(named):
        overrides.append(QUICKSTART)
    return with_sweep_file(Command(tuple(overrides), named, plans))


def is_public(word: str) -> bool:
    """Whether a word that a shell would complete is for people: no schema, no part of other files, nothing of Hydra's own."""
    key, _, value = word.lstrip("+").partition("=")
    return not (key.startswith("hydra") or value == "schema" or value.startswith("_"))


def word_of(key: str, value: Any) -> str:
    """The override that sets a key to a Python value."""
    return f"{key}={_literal(value)}"


def _literal(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_literal(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_literal, value))}]"
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        return "'" + re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + found[2].replace("'", "\\'"), value) + "'"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def key_of(word: str) -> str:
    """Read the key of an override: ``synthesis.ipc`` for ``+synthesis.ipc=5``."""
    return word.lstrip("+~").partition("=")[0]


def check_search(command: Command) -> None:
    """Raise UserError if the words of a command do not go together with a search, or with its absence."""
    keys = list(map(key_of, command.overrides))
    alone = next((key for key in keys if key.startswith("search.")), None)
    if alone and "search" not in keys:
        raise UserError(f"{alone} is a key of a search; name one with +search=NAME.")
    if not command.searches:
        return
    if command.multirun:
        raise UserError("+search makes its own jobs; leave out -m, +sweep and hydra.mode, and type a command for each.")
    if "evaluation.split" in keys:
        raise UserError(
            "evaluation.split belongs to the search, whose trials use held-out images and its final run the test images; "
            "leave it out."
        )


def with_sweep_file(command: Command) -> Command:
    """Let typed values win over those of the file of ``+sweep=NAME`` where both name a key.

    Hydra's sweeper would multiply the two instead: ``+sweep=ipc synthesis.ipc=5`` would run three times the same job.
    """
    name = next((word.partition("=")[2] for word in command.overrides if word.startswith("+sweep=")), None)
    folders = [folder for folder in (command.folder, config_dir()) if folder is not None]
    file = next((path for folder in folders if (path := folder / "sweep" / f"{name}.yaml").is_file()), None)
    if file is None:  # Hydra says so
        return command
    from omegaconf import OmegaConf

    params: Any = OmegaConf.select(OmegaConf.load(file), "hydra.sweeper.params") or {}
    typed = set(map(key_of, command.overrides))
    if not typed & set(params):
        return command
    kept = [f"{key}={value}" for key, value in params.items() if key not in typed]
    return dataclasses.replace(command, overrides=(*kept, *command.overrides, "hydra.sweeper.params=null"))


def check_jobs(command: Command) -> list[TeddyConfig]:
    """Compose and check every job of a command, so that the last one's mistake is found before the first one runs.

    A command that only shows something has no job. Of YAML files that are not ours, Hydra's own keys are checked as well. Hydra
    and OmegaConf raise errors of their own; see :mod:`teddy.config.messages`.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import open_dict

    overrides = list(command.overrides)
    if command.folder is not None:
        place = f"file://{command.folder.absolute()}"
        overrides.append(f"hydra.searchpath=[{json.dumps(place, ensure_ascii=False)}]")
    parser = OverridesParser.create()
    parsed = parser.parse_overrides(overrides)
    folder = Path(command.named.get("--config-path", config_dir())).absolute()
    make = functools.partial(compose, command.named.get("--config-name", "config"))
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folder), version_base="1.3"):
        single = [str(one.input_line) for one in parsed if not (command.multirun and one.is_sweep_override())]
        head = make(overrides=single, return_hydra_config=True)
        if command.foreign:
            check_hydra(head.hydra)
        if command.asks:
            return []
        with open_dict(head):
            hydra = head.pop("hydra")
        nodes = [head]
        if command.multirun:
            params = [f"{key}={value}" for key, value in (hydra.sweeper.get("params") or {}).items()]
            choices: dict[str, list[str]] = {}
            for one in [*parser.parse_overrides(params), *parsed]:
                key, line = one.get_key_element(), str(one.input_line)
                swept = one.is_sweep_override()
                values = itertools.islice(one.sweep_string_iterator(), MOST_JOBS + 1) if swept else ()
                choices[key] = [f"{key}={value}" for value in values] if swept else [line]
            if math.prod(map(len, choices.values())) > MOST_JOBS:
                raise UserError(f"this sweep has more than {MOST_JOBS:,} jobs; name fewer values.")
            nodes = [make(overrides=list(job)) for job in itertools.product(*choices.values())]
        return [to_config(node) for node in nodes]


def to_config(node: Any) -> TeddyConfig:
    """The composed configuration as our own dataclasses, checked; below this call nobody sees OmegaConf."""
    from omegaconf import OmegaConf

    config = OmegaConf.to_object(node)
    if not isinstance(config, TeddyConfig):
        raise UserError("The primary configuration has no schema; let it begin with 'defaults: [schema, ...]'.")
    for key, _, field in walk(config):
        if field is None:
            raise UserError(unknown_key(key))
    for name, node in dict(config.methods).items():  # an experiment may have numbers for methods that were not chosen
        if isinstance(node, dict) and "_target_" not in node and name in options("method"):
            del config.methods[name]
    import_plugins()
    check(config)
    return config


def to_yaml(config: TeddyConfig) -> str:
    """The whole configuration as YAML, every key resolved."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(dataclasses.asdict(config)))
