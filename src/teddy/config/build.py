"""The only place that turns a ``_target_`` into an object."""

from __future__ import annotations

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
    import inspect

    from hydra.utils import get_object

    target = node.get("_target_") if hasattr(node, "get") else None
    if not isinstance(target, str) or not target.startswith(ALLOWED):
        raise BadInput(f"_target_ must name a class of this project (teddy.…), not {target!r}.")
    arguments = {key: value for key, value in node.items() if key != "_target_"} | more
    try:
        factory = get_object(target)
        inspect.signature(factory).bind(**arguments)
    except (ImportError, AttributeError) as error:
        raise BadInput(f"_target_ {target} does not exist: {error}") from error
    except TypeError as error:
        raise BadInput(f"_target_ {target} does not take these keys: {error}.") from error
    return factory(**arguments)
