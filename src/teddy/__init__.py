"""Teddy: distils a large labelled image set into a few images per class, with a pool of weak teachers."""

from typing import Any

__version__ = "0.1.0"
_API = ("DistilledSet", "distill", "evaluate", "load")


def __getattr__(name: str) -> Any:
    """Import :mod:`teddy.api`, and torch with it, when something of it is first used."""
    if name not in _API:
        raise AttributeError(f"module 'teddy' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("teddy.api"), name)


def __dir__() -> list[str]:
    return [*globals(), *_API]
