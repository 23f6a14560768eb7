"""The only place that turns a ``_target_`` into an object."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from teddy.config.errors import BadInput

ALLOWED = ("teddy.",)
"""A configuration may name our own classes only: a YAML file is data, not a way to call any function."""


def build(node: Any, **more: Any) -> Any:
    """Builds the object that a configuration node names.

    Args:
        node: mapping with ``_target_`` and keyword arguments.
        more: further keyword arguments; they win over the node's.

    Raises:
        BadInput: the target is not ours, or does not exist, or does not take these arguments.
    """
    target = own_target("_target_", node)
    arguments = {key: value for key, value in node.items() if key != "_target_"} | more
    module, _, name = target.rpartition(".")
    try:
        factory = getattr(importlib.import_module(module), name)
        if not getattr(factory, "__module__", "").startswith(ALLOWED):  # something that our module imports
            raise BadInput(f"_target_ {target} is not a class of this project.")
        inspect.signature(factory).bind(**arguments)
    except (ImportError, AttributeError) as error:
        raise BadInput(f"_target_ {target} cannot be found: {error}.") from error
    except TypeError as error:
        raise BadInput(f"_target_ {target} does not take these keys: {error}.") from error
    return factory(**arguments)


def own_target(key: str, node: Any) -> str:
    """The ``_target_`` of the node at ``key``.

    Raises:
        BadInput: there is none, or it is not ours.
    """
    target = node.get("_target_") if hasattr(node, "get") else None
    if not isinstance(target, str) or not target.startswith(ALLOWED):
        raise BadInput(f"{key} must name a class of this project (teddy.…), not {target!r}.")
    return target
