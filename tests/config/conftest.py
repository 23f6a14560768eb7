"""Composed configurations, made the way the command makes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from teddy.config.command import check_jobs, read_command
from teddy.config.schema import TeddyConfig, register_schemas

register_schemas()


@pytest.fixture(scope="session")
def jobs() -> Callable[..., list[TeddyConfig]]:
    """The checked configurations that the words of a command line stand for."""

    def compose(*words: str) -> list[TeddyConfig]:
        return check_jobs(read_command(words))

    return compose
