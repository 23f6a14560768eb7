"""The objects that a configuration names (data source, pool strategy, methods), made and checked before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from teddy.config.build import build, factory_of
from teddy.config.epochs import saved_epochs
from teddy.config.errors import UserError
from teddy.config.schema import TeddyConfig
from teddy.data.sources.base import Source
from teddy.models.networks import check_network
from teddy.runtime.wandb_run import choose_mode

if TYPE_CHECKING:
    from teddy.pool.strategy import PoolStrategy
    from teddy.synthesis.method import Method


@dataclass(frozen=True)
class Plan:
    """A configuration and the objects that it names."""

    config: TeddyConfig
    source: Source
    strategy: PoolStrategy
    methods: dict[str, Method]  # by name, in the order typed
    task: Any = None  # makes the invocation that evaluates in its own way; None: students of all classes


def make_plan(config: TeddyConfig) -> Plan:
    """Build what a checked configuration names; UserError for the first thing that is wrong, with its key and what to do."""
    for node in config.logger.values():
        if "offline" in node:  # W&B's: without a key it cannot go online
            choose_mode(node["offline"])
    # First, since it may bring networks of its own.
    task = None if config.evaluation.task is None else build("evaluation.task", config.evaluation.task)
    for name in (config.model.name, *config.evaluation.students):
        check_network(name)
    source: Source = build("dataset.source", config.dataset.source)
    source.check()
    # Only now, since these import Lightning, which takes as long as all before.
    from teddy.pool.strategy import PoolStrategy
    from teddy.synthesis.method import Method

    strategy: PoolStrategy = build("pool.strategy", config.pool.strategy, PoolStrategy)
    saved = saved_epochs(config.pool.training.epochs, config.pool.training.save_every)
    members, wanted = strategy.members(saved), config.labels.members
    if members is not None and wanted != "all" and wanted > members:
        raise UserError(
            f"labels.members={wanted} asks for more teachers than the pool's {members}; lower it or enlarge the pool."
        )
    methods = {name: build(f"methods.{name}", node, Method) for name, node in config.methods.items()}
    for name, method in methods.items():
        if not isinstance(method.pool, PoolStrategy | None):
            raise UserError(f"methods.{name}.pool={method.pool!r} must be null or have a _target_, as pool.strategy.")
        method.check(members if method.pool is None else method.pool.members(saved))
    for group, nodes in {"logger": config.logger, "trainer.callbacks": config.trainer.callbacks}.items():
        for name, node in nodes.items():
            factory_of(f"{group}.{name}", node)
    plan = Plan(config, source, strategy, methods, task)
    if task is not None:
        task.check(plan)
    return plan
