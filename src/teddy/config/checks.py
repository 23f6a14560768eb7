"""Rules that no single type can say: ranges, known words, and keys that must agree. Checked before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from teddy.config.build import own_target
from teddy.config.epochs import member_epochs, saved_epochs
from teddy.config.errors import BadInput
from teddy.config.schema import STAGES, BaselineConfig, PoolConfig, SelectionConfig, TeddyConfig

IMAGES = ("distilled", "random")
WORDS = {
    "dataset.augment.crop": ("padded", "resized", "none"),
    "pool.training.schedule": ("step", "cosine", "constant"),
    "synthesis.class_order": ("consecutive", "permuted", "all"),
    "synthesis.teacher_policy": ("block", "iteration", "round_robin"),
    "images": IMAGES,
    "synthesis.initial": ("noise", "real"),
    "evaluation.split": ("test", "heldout"),
    "labels.kind": ("online", "stored", "hard"),
    "labels.member_policy": ("spread", "random", "last"),
    "labels.average": ("logits", "probabilities"),
    "labels.mix": ("cutmix", "mixup", "none"),
    "logger.mode": ("auto", "online", "offline", "disabled"),
    "trainer.accelerator": ("auto", "cpu", "gpu", "cuda", "mps"),
    "trainer.precision": ("auto", "float32", "bfloat16"),
}
AT_LEAST_ONE = (
    "dataset.num_classes",
    "dataset.channels",
    "dataset.size",
    "dataset.resize",
    "dataset.per_class",
    "pool.training.epochs",
    "pool.training.batch_size",
    "pool.training.save_every",
    "pool.training.step_size",
    "synthesis.ipc",
    "synthesis.iterations",
    "synthesis.batch_size",
    "synthesis.teachers_per_block",
    "synthesis.blocks_at_once",
    "labels.batch_size",
    "labels.epochs",
    "labels.top_k",
    "evaluation.epochs",
    "evaluation.batch_size",
    "evaluation.together",
    "trainer.devices",
    "trainer.threads",
)
ABOVE_ZERO = ("pool.training.lr", "pool.training.gamma", "synthesis.lr", "labels.temperature", "labels.alpha")
NOT_NEGATIVE = (
    "pool.training.momentum",
    "pool.training.weight_decay",
    "pool.training.warmup_epochs",
    "dataset.augment.padding",
    "synthesis.weight_decay",
    "synthesis.bn_weight",
    "synthesis.ce_weight",
    "synthesis.first_bn_weight",
    "synthesis.sheet_every",
    "synthesis.checkpoint_every",
    "synthesis.view.shift",
    "trainer.workers",
    "seed",
)
SHARES = ("dataset.augment.min_scale", "synthesis.view.min_scale", "labels.min_scale")
PROTOCOL_WORDS = {
    "labels": ("soft", "hard"),
    "augment": ("views", "dsa"),
    "optimizer": ("adamw", "sgd"),
    "schedule": ("cosine", "step"),
}


def check(config: TeddyConfig) -> None:
    """Checks one composed configuration.

    Raises:
        BadInput: the first rule that is broken, with its key and what to do.
    """
    _check_values(config)
    _check_stages(config.stages)
    if not 0 < config.dataset.holdout < 1:
        raise BadInput(f"dataset.holdout={config.dataset.holdout} must lie between 0 and 1, for example 0.05.")
    if not 0 <= config.labels.flip <= 1:
        raise BadInput(f"labels.flip={config.labels.flip} is a probability and must lie between 0 and 1.")
    own_target("dataset.source._target_", config.dataset.source)
    if config.method in config.baselines:
        raise BadInput(f"method={config.method} is also the name of a baseline; leave it out of baseline=[...].")
    members = _check_pool("pool", config.pool)
    _check_teachers(config, members)
    _check_blocks(config)
    _check_top_k(config)
    _check_evaluation(config)
    for name, baseline in config.baselines.items():
        _check_baseline(f"baselines.{name}", baseline, config, members)


def pool_of(config: TeddyConfig, selection: SelectionConfig) -> PoolConfig:
    """A baseline's pool in full: its own selection from the run's training."""
    return PoolConfig(**vars(selection), training=config.pool.training)


def protocols(config: TeddyConfig) -> list[str]:
    """The names in ``evaluation.protocol``, which may be one word or a list."""
    value = config.evaluation.protocol
    return [value] if isinstance(value, str) else list(value)


def seeds(config: TeddyConfig) -> list[int]:
    """The student seeds in ``evaluation.seeds``: a count n stands for 0 … n-1, a list for itself."""
    value = config.evaluation.seeds
    return list(range(value)) if isinstance(value, int) else list(value)


def _value(config: TeddyConfig, key: str) -> Any:
    node: Any = config
    for part in key.split("."):
        node = getattr(node, part)
    return node


def _one_of(key: str, value: Any, allowed: Iterable[str]) -> None:
    if value not in tuple(allowed):
        raise BadInput(f"{key}={value!r} is not known; choose one of {', '.join(allowed)}.")


def _check_values(config: TeddyConfig) -> None:
    for key in ("name", "method"):
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", _value(config, key)):
            raise BadInput(f"{key}={_value(config, key)!r} names folders; use letters, digits, '_', '-' and '.' only.")
    for key, published in config.paper.items():
        if not 1 <= len(published) <= 2:
            raise BadInput(f"paper.{key}={published} must be [mean] or [mean,standard deviation], in percent.")
    for key, allowed in WORDS.items():
        _one_of(key, _value(config, key), allowed)
    for key in AT_LEAST_ONE:
        value = _value(config, key)
        if value is not None and value < 1:
            raise BadInput(f"{key}={value} must be at least 1.")
    for key in ABOVE_ZERO:
        if not _value(config, key) > 0:
            raise BadInput(f"{key}={_value(config, key)} must be greater than 0.")
    for key in NOT_NEGATIVE:
        if not _value(config, key) >= 0:
            raise BadInput(f"{key}={_value(config, key)} must not be negative.")
    for key in SHARES:
        if not 0 < _value(config, key) <= 1:
            raise BadInput(f"{key}={_value(config, key)} is a share of the image's area: above 0 and at most 1.")
    betas = config.synthesis.betas
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise BadInput(f"synthesis.betas={betas} must be two numbers in [0, 1), such as [0.5,0.9].")


def _check_stages(stages: list[str]) -> None:
    for stage in stages:
        _one_of("stages", stage, STAGES)
    if not stages:
        raise BadInput(f"stages=[] leaves nothing to do; name some of {', '.join(STAGES)}.")


def check_files(config: TeddyConfig) -> None:
    """Raises BadInput if the weights of a base model are to be read from a file that is not there."""
    baselines = {f"baselines.{name}.pool": one.pool for name, one in config.baselines.items() if one.pool is not None}
    for key, pool in {"pool": config.pool, **baselines}.items():
        if pool.base not in (None, "trained", "pretrained") and not Path(pool.base).is_file():
            raise BadInput(f"{key}.base={pool.base} is no file; give trained, pretrained, or a file of weights.")


def _check_pool(key: str, pool: PoolConfig) -> int:
    """Checks one pool and returns its number of members."""
    own_target(f"{key}.strategy._target_", pool.strategy)
    if pool.size is not None and pool.size < 1:
        raise BadInput(f"{key}.size={pool.size} must be at least 1.")
    if pool.every < 1:
        raise BadInput(f"{key}.every={pool.every} must be at least 1.")
    if pool.training.warmup_epochs >= pool.training.epochs:
        raise BadInput(f"pool.training.warmup_epochs must be smaller than pool.training.epochs={pool.training.epochs}.")
    if pool.base is not None:
        if pool.size is None:
            raise BadInput(f"{key}.size=null leaves the number of members open; give it, such as {key}.size=10.")
        return pool.size
    if pool.first is None:
        raise BadInput(f"{key}.first=null leaves the first member open; give its epoch, such as {key}.first=1.")
    if (pool.last is not None and pool.first > pool.last) or pool.first < 1:
        raise BadInput(f"{key}.first={pool.first} must be at least 1 and at most {key}.last={pool.last}.")
    if pool.last is not None and pool.last > pool.training.epochs:
        raise BadInput(
            f"{key}.last={pool.last} lies beyond the training; lower it or raise pool.training.epochs={pool.training.epochs}."
        )
    saved = saved_epochs(pool.training.epochs, pool.training.save_every)
    return len(member_epochs(pool.first, pool.last, pool.every, pool.size, saved))


def _check_teachers(config: TeddyConfig, members: int) -> None:
    if config.images == "distilled" and config.synthesis.teachers_per_block > members:
        raise BadInput(
            f"synthesis.teachers_per_block={config.synthesis.teachers_per_block} asks for more teachers than the pool's "
            f"{members}; lower it or enlarge the pool (pool.first, pool.last, pool.every, pool.size)."
        )
    if config.synthesis.compile and config.pool.base is not None and members > 1:
        raise BadInput(
            f"synthesis.compile=true is for teachers of one shape, and those of pool={config.pool.label} are pruned one by one; "
            "set synthesis.compile=false."
        )
    wanted = config.labels.members
    if wanted == "all":
        return
    if not isinstance(wanted, int) or wanted < 1:
        raise BadInput(f"labels.members={wanted!r} must be 'all' or a number of teachers.")
    if wanted > members:
        raise BadInput(
            f"labels.members={wanted} asks for more teachers than the pool's {members}; lower it or enlarge the pool."
        )


def _check_baseline(key: str, baseline: BaselineConfig, config: TeddyConfig, members: int) -> None:
    _one_of(f"{key}.images", baseline.images, IMAGES)
    if baseline.iterations is not None and baseline.iterations < 1:
        raise BadInput(f"{key}.iterations={baseline.iterations} must be at least 1.")
    if baseline.pool is not None:
        members = _check_pool(f"{key}.pool", pool_of(config, baseline.pool))
    given = baseline.teachers_per_block
    teachers = config.synthesis.teachers_per_block if given is None else given
    if baseline.images == "distilled" and not 1 <= teachers <= members:
        raise BadInput(
            f"{key}.teachers_per_block={given} means {teachers} teachers of a pool of {members}; choose 1 to {members}."
        )


def _check_blocks(config: TeddyConfig) -> None:
    classes = config.dataset.num_classes
    synthesis = config.synthesis
    if synthesis.class_order == "all" and classes is not None and synthesis.batch_size < classes:
        raise BadInput(
            f"synthesis.class_order=all puts every class in each block, so synthesis.batch_size={synthesis.batch_size} "
            f"must be at least the {classes} classes of {config.dataset.name}; raise it or choose class_order=consecutive."
        )
    plateau = synthesis.plateau
    if plateau is not None and not 0 < plateau < 1:
        raise BadInput(f"synthesis.plateau={plateau} must be a share between 0 and 1, such as 0.02, or null.")
    if plateau is not None and synthesis.blocks_at_once > 1:
        raise BadInput(
            "synthesis.plateau ends one block at a time; set synthesis.blocks_at_once=1 or synthesis.plateau=null."
        )


def _check_top_k(config: TeddyConfig) -> None:
    top_k, kind, classes = config.labels.top_k, config.labels.kind, config.dataset.num_classes
    if top_k is None:
        return
    if kind != "stored":
        raise BadInput(
            f"labels.top_k={top_k} is for stored labels, not {kind} ones; set labels=stored or labels.top_k=null."
        )
    if classes is not None and top_k >= classes:
        raise BadInput(
            f"labels.top_k={top_k} must be less than the {classes} classes of {config.dataset.name}; labels.top_k=null "
            "keeps them all."
        )


def _check_evaluation(config: TeddyConfig) -> None:
    evaluation = config.evaluation
    if not isinstance(evaluation.protocol, str | list):
        raise BadInput(f"evaluation.protocol={evaluation.protocol!r} must be a name or a list of names.")
    names = protocols(config)
    if not names:
        raise BadInput(f"evaluation.protocol is empty; name some of {', '.join(evaluation.protocols)}.")
    for name in names:
        _one_of("evaluation.protocol", name, evaluation.protocols)
    for name, protocol in evaluation.protocols.items():
        for key, allowed in PROTOCOL_WORDS.items():
            _one_of(f"evaluation.protocols.{name}.{key}", getattr(protocol, key), allowed)
        if protocol.epochs < 1 or protocol.batch_size < 2:
            raise BadInput(f"evaluation.protocols.{name} needs epochs of at least 1 and a batch_size of at least 2.")
        if not (protocol.lr > 0 and protocol.eta > 0 and protocol.momentum >= 0 and protocol.weight_decay >= 0):
            raise BadInput(
                f"evaluation.protocols.{name} needs lr and eta above 0; momentum and weight_decay must not be negative."
            )
        if protocol.labels == "soft" and protocol.augment != "views":
            raise BadInput(
                f"evaluation.protocols.{name}: soft labels belong to views; set augment=views or labels=hard."
            )
    if not evaluation.students:
        raise BadInput("evaluation.students is empty; name at least one network, such as [convnet3].")
    _check_seeds(evaluation.seeds)


def _check_seeds(chosen: Any) -> None:
    whole = isinstance(chosen, int) and not isinstance(chosen, bool)
    if (whole and chosen < 1) or (not whole and (not isinstance(chosen, list) or not chosen)):
        raise BadInput(
            f"evaluation.seeds={chosen!r} must be a number of seeds or a list of them, such as 3 or [0,1,2]."
        )
    if not whole and not all(type(seed) is int and seed >= 0 for seed in chosen):
        raise BadInput(f"evaluation.seeds={chosen} must hold whole numbers from 0 on.")
    if not whole and len(set(chosen)) != len(chosen):
        raise BadInput(f"evaluation.seeds={chosen} names a seed twice.")
