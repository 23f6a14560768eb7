"""Hydra's own keys in a user's YAML files: Hydra would call whatever function its callbacks or log handlers name there."""

from __future__ import annotations

from typing import Any

from teddy.config.build import ALLOWED, OWN, find_class, plugins
from teddy.config.errors import UserError

PARTS = ("callbacks", "launcher", "sweeper", "job_logging", "hydra_logging", "job.env_set")
PACKAGES = ("hydra", "hydra_plugins", "logging", "colorlog", *OWN)


def check_hydra(hydra: Any) -> None:
    """Raise UserError unless the ``hydra`` node of a composed configuration names classes only, and allows no package."""
    from omegaconf import OmegaConf

    for part in PARTS:
        node = OmegaConf.select(hydra, part)
        if node is not None:
            _check(node, f"hydra.{part}")


def _check(node: Any, key: str) -> None:
    from omegaconf import Container, ListConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    raw: Any = OmegaConf.to_container(node, resolve=False)
    for name in range(len(node)) if isinstance(node, ListConfig) else list(node):
        here = f"{key}.{name}"
        if name == ALLOWED:
            raise UserError(f"{here}: packages are allowed on the command line only (--allow PACKAGE).")
        if OmegaConf.is_missing(node, name):
            continue
        try:
            value = node[name]
        except OmegaConfBaseException as error:  # a string is harmless, whatever it turns out to be
            if name not in ("_target_", "class", "()") and not str(raw[name]).endswith("}"):
                continue
            raise UserError(f"{here}={raw[name]!r} cannot be told before the run; write it out.") from error
        if isinstance(value, Container):
            _check(value, here)
        elif name == "()":
            raise UserError(f"{here} names a function to call; only classes can be named.")
        elif name in ("_target_", "class") and value is not None:
            find_class(here, str(value), (*PACKAGES, *plugins()))
