"""Objects from configuration nodes: the only place that turns a ``_target_`` into an instance.

A YAML file is data, not a way to call any function: a target must be a class that is defined in this project, in Lightning's
loggers or callbacks, or in a package that is installed as a plug-in or allowed on the command line.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib.metadata import entry_points
from typing import Any

from teddy.config.errors import UserError

OWN = ("teddy", "lightning.pytorch.loggers", "lightning.pytorch.callbacks")
ENTRY_POINTS = "teddy.plugins"
"""Entry point group: a package that is named there may be a target and is imported when a run starts."""
ALLOWED = "TEDDY_ALLOW"
"""Environment variable with further packages, separated by commas; ``--allow PACKAGE`` adds to it, for worker processes too."""


@cache
def _installed() -> tuple[str, ...]:
    return tuple(point.value.partition(":")[0].partition(".")[0] for point in entry_points(group=ENTRY_POINTS))


def plugins() -> list[str]:
    """Packages, besides this project and Lightning, whose classes a configuration may name."""
    allowed = (name.strip() for name in os.environ.get(ALLOWED, "").split(","))
    return list(dict.fromkeys([*_installed(), *filter(None, allowed)]))


def import_plugins() -> None:
    """Import every plug-in, so that it can register its networks; UserError if one of them cannot be imported."""
    for name in plugins():
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(f"the plug-in {name} cannot be imported ({error}); install or correct it.") from error


def target_of(key: str, node: Any) -> str:
    """The ``_target_`` of the node at ``key``, not imported yet; UserError if there is none or its package is not allowed."""
    target = node.get("_target_") if isinstance(node, Mapping) else None
    if not isinstance(target, str) or not _within(target, (*OWN, *plugins())):
        raise UserError(
            f"{key}._target_ must name a class of this project (teddy.…), of Lightning's loggers or callbacks, or of a plug-in "
            f"(--allow PACKAGE), not {target!r}."
        )
    return target


def build(key: str, node: Any, kind: type | None = None) -> Any:
    """Build the object that the node at ``key`` names; nodes inside it that name a class are built first.

    The fields of a dataclass are checked against their types. UserError if the target is not allowed, does not exist, does not
    take these arguments, or makes no object of ``kind``.
    """
    made = factory_of(key, node, complete=True)
    if kind is not None and not (inspect.isclass(made.func) and issubclass(made.func, kind)):
        raise UserError(f"{key}: {node['_target_']} is not a {kind.__name__}; see docs/own_method.md.")
    arguments = {name: _argument(f"{key}.{name}", value) for name, value in made.keywords.items()}
    return _validated(key, made.func, arguments) if dataclasses.is_dataclass(made.func) else made.func(**arguments)


def factory_of(key: str, node: Any, complete: bool = False) -> partial[Any]:
    """The class that a node names with the node's arguments, to be called later, with more of them unless ``complete``."""
    target = target_of(key, node)
    factory = find_class(key, target, (*OWN, *plugins()))
    arguments = {name: value for name, value in node.items() if name != "_target_"}
    try:
        signature = inspect.signature(factory)
        if not complete:
            signature.bind_partial(**arguments)
        elif not dataclasses.is_dataclass(factory):  # whose fields are checked one by one
            signature.bind(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"{key}: {target} does not take these keys: {error}.") from error
    return partial(factory, **arguments)


def find_class(key: str, target: str, packages: Sequence[str]) -> type:
    """The class with the full name ``target``; UserError if there is none, or it is not defined in one of ``packages``."""
    if not _within(target, packages):
        raise UserError(f"{key}: _target_ {target} may not be named; only classes of {', '.join(packages)} can.")
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{key}: _target_ {target} cannot be found: {error}.") from error
    if not inspect.isclass(found) or inspect.isabstract(found):
        raise UserError(f"{key}: _target_ {target} is not a class of which an object can be made.")
    if not _within(found.__module__, packages):
        raise UserError(f"{key}: _target_ {target} is defined in {found.__module__}; name a class where it is defined.")
    return found


def _within(name: str, packages: Sequence[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _argument(key: str, value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):  # a group of keys, interpolated as a whole
        return dataclasses.asdict(value)
    return build(key, value) if isinstance(value, Mapping) and "_target_" in value else value


@cache
def _adapter(factory: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(factory)


def _validated(key: str, factory: Any, arguments: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    known = [one.name for one in dataclasses.fields(factory) if one.init]
    for name in arguments:
        if name not in known:
            raise UserError(f"There is no key '{key}.{name}'; {factory.__name__} has {', '.join(known)}.")
    try:
        return _adapter(factory).validate_python(arguments)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, (key, *first["loc"])))
        if first["type"] == "missing":
            raise UserError(f"{name} has no value; set it in its file or write {name}=VALUE.") from error
        what = first["msg"].removeprefix("Input ").removeprefix("Value error, ").replace("should", "must")
        raise UserError(f"{name}={first['input']!r} {what}.") from error
