"""Rules of a whole configuration: the range of each key, and keys that must agree. Checked before anything is loaded."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from teddy.config.build import target_of
from teddy.config.errors import UserError
from teddy.config.schema import RULE, STAGES, PoolConfig, SearchConfig, TeddyConfig, walk

_SECRET = re.compile(r"'\w*(api_?key|token|password|secret)': (?!None)", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
SEEDS = 1000  # student seeds of a run, at most


def check(config: TeddyConfig) -> None:
    """Check one composed configuration; UserError names the first rule that is broken, its key and what to do."""
    for key, name in (("name", config.name), *(("method", name) for name in config.methods)):
        allowed = "letters, digits, '_', '-' and '.' only, at most 100"
        _require(_NAME.fullmatch(name), f"{key}={name!r} names folders; use {allowed}.")
    secret = os.environ.get("WANDB_API_KEY")
    for key, value, one in walk(config):
        _require(
            not (secret and secret in str(value)) and not (key == "logger" and _SECRET.search(str(value))),
            f"{key} holds an API key, and is written to files and logs; take it out, and run `wandb login` or set WANDB_API_KEY.",
        )
        words = value if isinstance(value, list) else [value]
        printable = all(word.isprintable() for word in words if isinstance(word, str))
        _require(printable, f"{key}={value!r} holds a line break or another character that cannot be shown; remove it.")
        if one is not None and RULE in one.metadata and (value is not None or one.type == "Any"):
            holds, text = one.metadata[RULE]
            _require(holds(value), f"{key}={value!r} {text}.")
    for stage in config.stages:
        _require(stage in STAGES, f"stages={stage!r} is not known; choose one of {', '.join(STAGES)}.")
    for key, published in config.paper.items():
        text = f"paper.{key}={published} must be [mean] or [mean,standard deviation], in percent."
        _require(len(published) in (1, 2), text)
    _require(config.methods, "method=[] leaves nothing to compare; name at least one file of conf/method.")
    nodes = {"dataset.source": config.dataset.source, "pool.strategy": config.pool.strategy}
    if config.evaluation.task is not None:
        nodes["evaluation.task"] = config.evaluation.task
    groups = {"methods": config.methods, "logger": config.logger, "trainer.callbacks": config.trainer.callbacks}
    nodes |= {f"{group}.{name}": node for group, named in groups.items() for name, node in named.items()}
    for key, node in nodes.items():
        target_of(key, node)
    _check_pool(config.pool)
    resize, size = config.dataset.resize, config.dataset.size
    _require(
        resize is None or size is None or resize >= size,
        f"dataset.resize={resize} leaves black borders around images of dataset.size={size}; raise it or set it to null.",
    )
    _require(
        config.dataset.keep is None or config.dataset.long_tail is None,
        "dataset.keep and dataset.long_tail are two ways to unbalance the classes; set one of them to null.",
    )
    _require(
        config.dataset.test_fraction is None or "test_fraction" in config.dataset.source,
        f"dataset.test_fraction is for folders of images, and {config.dataset.name} has its own test images; set it to null.",
    )
    _require(
        not config.synthesis.compile or config.pool.base is None or config.pool.size == 1,
        "synthesis.compile=true is for teachers of one shape, and those of this pool are pruned one by one; set "
        "synthesis.compile=false.",
    )
    top_k, kind, classes = config.labels.top_k, config.labels.kind, config.dataset.num_classes
    _require(
        top_k is None or kind == "stored",
        f"labels.top_k={top_k} is for stored labels, not {kind} ones; set labels=stored or labels.top_k=null.",
    )
    _require(
        top_k is None or classes is None or top_k < classes,
        f"labels.top_k={top_k} must be less than the {classes} classes of {config.dataset.name}; labels.top_k=null keeps all.",
    )
    _check_evaluation(config)
    if config.search is not None:
        _check_search(config, config.search)


def protocols(config: TeddyConfig) -> list[str]:
    """The names in ``evaluation.protocol``, which may be one word or a list."""
    value = config.evaluation.protocol
    return [value] if isinstance(value, str) else list(value)


def seeds(config: TeddyConfig) -> list[int]:
    """The student seeds in ``evaluation.seeds``: a count n stands for 0 … n-1, a list for itself."""
    value = config.evaluation.seeds
    return list(range(value)) if isinstance(value, int) else list(value)


def _require(holds: Any, sentence: str) -> None:
    if not holds:
        raise UserError(sentence)


def _check_pool(pool: PoolConfig) -> None:
    epochs = pool.training.epochs
    warmup = pool.training.warmup_epochs < epochs
    _require(warmup, f"pool.training.warmup_epochs must be smaller than pool.training.epochs={epochs}.")
    if pool.base is not None:
        _require(pool.size, "pool.size=null leaves the number of teachers open; give it, such as pool.size=10.")
        found = pool.base in ("trained", "pretrained") or Path(pool.base).expanduser().is_file()
        _require(found, f"pool.base={pool.base} is no file; give trained, pretrained, or a file of weights.")
    elif pool.first is not None:  # else a strategy with keys of its own
        ordered = pool.first >= 1 and (pool.last is None or pool.first <= pool.last)
        _require(ordered, f"pool.first={pool.first} must be at least 1 and at most pool.last={pool.last}.")
        _require(
            pool.last is None or pool.last <= epochs,
            f"pool.last={pool.last} lies beyond the training; lower it or raise pool.training.epochs={epochs}.",
        )


def _check_evaluation(config: TeddyConfig) -> None:
    chosen, seed = config.evaluation.protocol, config.evaluation.seeds
    known = ", ".join(config.evaluation.protocols)
    named = isinstance(chosen, str) or (isinstance(chosen, list) and all(isinstance(one, str) for one in chosen))
    _require(named, f"evaluation.protocol={chosen!r} must be a name or a list of names.")
    _require(chosen, f"evaluation.protocol is empty; name some of {known}.")
    for name in protocols(config):
        found = name in config.evaluation.protocols
        _require(found, f"evaluation.protocol={name!r} is not known; choose one of {known}.")
    for name, protocol in config.evaluation.protocols.items():
        fits = protocol.labels == "hard" or protocol.augment == "views"
        _require(fits, f"evaluation.protocols.{name}: soft labels belong to views; set augment=views or labels=hard.")
    low, most = (0, 2**63 - 1) if isinstance(seed, list) else (1, SEEDS)
    counts = seed if isinstance(seed, list) else [seed]
    _require(
        counts and all(type(one) is int and low <= one <= most for one in counts),
        f"evaluation.seeds={seed!r} must be a number of seeds or a list of them, such as 3 or [0,1,2]; at most {SEEDS:,}, each "
        "below 2^63.",
    )
    _require(len(set(counts)) == len(counts), f"evaluation.seeds={seed} names a seed twice.")


def _check_search(config: TeddyConfig, search: SearchConfig) -> None:
    every = ",".join([search.method, *config.methods])
    _require(
        search.method in config.methods,
        f"search.method={search.method} is not among the methods of this run; add it with method=[{every}], or choose another "
        "search.",
    )
    _require("evaluation" in config.stages, "A search compares students; add evaluation to stages.")
    _require(search.values, "search.values names no key; give candidates, such as {synthesis.lr: [0.01,0.1]}.")
    for key, values in search.values.items():
        _require(values, f"search.values.{key}=[] names no candidate; give some.")
        free = key not in ("evaluation.split", "method")
        _require(free, f"search.values.{key} is fixed by the search; leave it out.")
