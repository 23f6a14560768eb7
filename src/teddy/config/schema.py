"""The types and ranges of every YAML file in ``conf/``: a key that is not here does not exist.

YAML holds the values, these classes the types and, in the fields' metadata, what values make sense. ``register_schemas`` gives
them to Hydra, which names file and key of any typo. ``Any`` stands where a class is named or where a word or a number may come.
"""

# ruff: noqa: RUF009 - the calls make fields
from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

STAGES = ("pool", "synthesis", "labels", "evaluation", "report")
RULE = "rule"
MOST = 10_000_000
"""The largest number that makes sense anywhere, lest a mistyped one fills the memory; seeds alone may be larger."""
EPOCHS = 100_000
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "count": (lambda x: 1 <= x <= MOST, f"must be at least 1 and at most {MOST:,}"),
    "epochs": (lambda x: 1 <= x <= EPOCHS, f"must be at least 1 and at most {EPOCHS:,}"),
    "trials": (lambda x: 1 <= x <= 1000, "must be at least 1 and at most 1,000"),
    "threads": (lambda x: 1 <= x <= 1024, "must be at least 1 and at most 1,024"),
    "pixels": (lambda x: 1 <= x <= 4096, "must be at least 1 and at most 4,096 pixels"),
    "batch": (lambda x: 2 <= x <= MOST, f"must be at least 2, as BatchNorm needs, and at most {MOST:,}"),
    "positive": (lambda x: 0 < x <= MOST, f"must be greater than 0 and at most {MOST:,}"),
    "weight": (lambda x: 0 <= x <= MOST, f"must not be negative and at most {MOST:,}"),
    "padding": (lambda x: 0 <= x <= 4096, "must not be negative and at most 4,096 pixels"),
    "seed": (lambda x: 0 <= x < 2**63, "must not be negative and below 2^63"),
    "temperature": (lambda x: 0.001 <= x <= 1000, "must lie between 0.001 and 1,000"),
    "means": (lambda x: all(map(math.isfinite, x)), "must be finite numbers, one for each channel, such as [0.5]"),
    "deviations": (
        lambda x: all(0 < one <= MOST for one in x),
        "must be numbers greater than 0, one for each channel, such as [0.25]",
    ),
    "title": (lambda x: 1 <= len(x) <= 100, "must have at least 1 and at most 100 characters"),
    "titles": (lambda x: all(1 <= len(one) <= 100 for one in x), "must be names of 1 to 100 characters"),
    "area": (lambda x: 0 < x <= 1, "is a share of the image's area: above 0 and at most 1"),
    "share": (lambda x: 0 < x < 1, "must lie between 0 and 1, for example 0.05"),
    "shares": (lambda x: all(0 < one < 1 for one in x), "must be shares of the epochs between 0 and 1, such as [0.5]"),
    "probability": (lambda x: 0 <= x <= 1, "is a probability and must lie between 0 and 1"),
    "bounds": (
        lambda x: len(x) == 2 and 0 < x[0] <= x[1] <= 1,
        "must be the smallest and the largest share of a class's images that are kept, such as [0.4,1.0]",
    ),
    "factor": (lambda x: 1 <= x < float("inf"), "must be at least 1, such as 100"),
    "betas": (
        lambda x: len(x) == 2 and all(0 <= one < 1 for one in x),
        "must be two numbers in [0, 1), such as [0.5,0.9]",
    ),
    "members": (lambda x: x == "all" or (type(x) is int and 1 <= x <= MOST), "must be 'all' or a number of teachers"),
    "networks": (bool, "names no network; name at least one, such as [convnet3]"),
    "stages": (bool, f"leaves nothing to do; name some of {', '.join(STAGES)}"),
}
"""What a value must satisfy, and the end of the sentence that says so."""


def _is(rule: str, default: Any = MISSING) -> Any:
    """A field with a rule: one of :data:`RULES`, or the words that are allowed, separated by ``|``."""
    words = rule.split(" | ")
    words_rule = (lambda value: value in words, f"is not known; choose one of {', '.join(words)}")
    return field(default=default, metadata={RULE: RULES.get(rule, words_rule)})


@dataclass
class AugmentConfig:
    """What teacher training does to a real image: random crop (padded, resized or none), flip, and DSA."""

    crop: str = _is("padded | resized | none")
    padding: int = _is("padding")
    min_scale: float = _is("area")
    flip: bool = MISSING
    dsa: str = _is("none | dsa | dsa_no_flip | dsa_strong", "none")


@dataclass
class DatasetConfig:
    """A real dataset; facts that are null are read from the data."""

    name: str = _is("title")
    root: str | None = None
    source: Any = MISSING
    num_classes: int | None = _is("count", None)
    channels: int | None = _is("count", None)
    size: int | None = _is("pixels", None)
    resize: int | None = _is("pixels", None)
    mean: list[float] | None = _is("means", None)
    std: list[float] | None = _is("deviations", None)
    class_names: list[str] | None = _is("titles", None)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    holdout: float = _is("share")
    per_class: int | None = _is("count", None)
    keep: list[float] | None = _is("bounds", None)
    long_tail: float | None = _is("factor", None)
    subset_seed: int = _is("weight", 0)
    zca: float | None = _is("positive", None)
    test_fraction: float | None = _is("share", None)


@dataclass
class ModelConfig:
    """The network of the pool, by name (see :mod:`teddy.models.networks`)."""

    name: str = MISSING


@dataclass
class TrainingConfig:
    """Training of the base model, which all pools of a run share (Table 6)."""

    epochs: int = _is("epochs")
    lr: float = _is("positive")
    momentum: float = _is("weight")
    weight_decay: float = _is("weight")
    batch_size: int = _is("batch")
    schedule: str = _is("step | cosine | constant")
    step_size: int = _is("count")
    gamma: float = _is("positive")
    warmup_epochs: int = _is("weight")
    save_every: int = _is("count")


@dataclass
class PoolConfig:
    """The weak teachers of a run: epochs ``first`` to ``last`` of one training, or ``size`` networks made from ``base``."""

    strategy: Any = MISSING
    base: str | None = None
    first: int | None = None
    last: int | None = None
    every: int = _is("count", 1)
    size: int | None = _is("count", None)
    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass
class ViewConfig:
    """The random view of a block in each iteration of synthesis."""

    crop: bool = MISSING
    min_scale: float = _is("area")
    flip: bool = MISSING
    shift: int = _is("padding")


@dataclass
class SynthesisConfig:
    """What the methods of a run share, and Table 7's numbers, which a method may take or replace by its own."""

    ipc: int = _is("count")
    seed: int = _is("seed")
    iterations: int = _is("count")
    lr: float = _is("positive")
    betas: list[float] = _is("betas")
    weight_decay: float = _is("weight")
    bn_weight: float = _is("weight")
    ce_weight: float = _is("weight")
    first_bn_weight: float = _is("weight")
    batch_size: int = _is("count")
    teachers_per_block: int = _is("count")
    teacher_policy: str = _is("block | iteration | round_robin")
    initial: str = _is("noise | real")
    view: ViewConfig = field(default_factory=ViewConfig)
    blocks_at_once: int = _is("count")
    compile: bool = MISSING
    snapshot_every: int = _is("weight")
    probe_every: int = _is("weight")
    checkpoint_every: int = _is("weight")


@dataclass
class LabelsConfig:
    """The views of the distilled images, and how the pool labels them."""

    kind: str = _is("online | stored | fixed | hard")
    members: Any = _is("members")
    temperature: float = _is("temperature")
    batch_size: int = _is("count")
    epochs: int | None = _is("epochs", None)
    top_k: int | None = _is("count", None)
    mix: str = _is("cutmix | none")
    alpha: float = _is("positive")
    min_scale: float = _is("area")
    flip: float = _is("probability")


@dataclass
class ProtocolConfig:
    """How a student is trained: what relatives of this paper call post-training or validation."""

    labels: str = _is("soft | hard")
    augment: str = _is("views | dsa | dsa_no_flip | dsa_strong")
    cutmix: float = _is("probability")
    optimizer: str = _is("adamw | sgd")
    lr: float = _is("positive")
    learned_lr: bool = False
    momentum: float = _is("weight")
    weight_decay: float = _is("weight")
    batch_size: int = _is("batch")
    epochs: int = _is("epochs")
    schedule: str = _is("cosine | step")
    eta: float = _is("positive")
    milestones: list[float] = _is("shares")
    gamma: float = _is("positive")


@dataclass
class EvaluationConfig:
    """Students: architectures × seeds × protocols. Null epochs and batch size mean the protocol's own."""

    protocol: Any = MISSING
    protocols: dict[str, ProtocolConfig] = field(default_factory=dict)
    students: list[str] = _is("networks")
    seeds: Any = MISSING
    epochs: int | None = _is("epochs", None)
    batch_size: int | None = _is("batch", None)
    split: str = _is("test | heldout")
    divergence: bool = MISSING
    curve: bool = MISSING
    task: Any = None


@dataclass
class TrainerConfig:
    """The machine, in Lightning's words; ``callbacks`` holds Lightning callbacks by a name of the user's choice."""

    accelerator: str = _is("auto | cpu | gpu | cuda | mps")
    devices: int = _is("count")
    num_nodes: int = _is("count")
    strategy: str = MISSING
    precision: str = _is("auto | 32-true | bf16-mixed")
    sync_batchnorm: bool = MISSING
    deterministic: bool = MISSING
    workers: int = _is("weight")
    threads: int | None = _is("threads", None)
    callbacks: dict[str, Any] = field(default_factory=dict)


@dataclass
class SearchConfig:
    """A search for settings on held-out images (``+search=NAME``); see :mod:`teddy.search`.

    ``values`` holds candidates by key, ``shared`` what all trials set and the final run does not, such as fewer epochs.
    """

    method: str = MISSING
    trials: int = _is("trials")
    values: dict[str, list[Any]] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)


@dataclass
class TeddyConfig:
    """One run: everything that ``python -m teddy`` reads."""

    name: str = MISSING
    seed: int = _is("seed")
    store: str = MISSING
    stages: list[str] = _is("stages")
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    methods: dict[str, Any] = field(default_factory=dict)
    labels: LabelsConfig = field(default_factory=LabelsConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: dict[str, Any] = field(default_factory=dict)
    paper: dict[str, list[float]] = field(default_factory=dict)
    chosen: str | None = None  # settings of a preset, said when a run starts
    search: SearchConfig | None = None


GROUPS = {
    one.name: one.default_factory
    for one in dataclasses.fields(TeddyConfig)
    if dataclasses.is_dataclass(one.default_factory)
}
"""Groups of ``conf/`` with a schema, by name."""


def walk(node: Any, prefix: str = "") -> Iterator[tuple[str, Any, dataclasses.Field[Any] | None]]:
    """Every dotted key of a configuration with its value and its field; keys that are in no schema have no field."""
    known = {one.name: one for one in dataclasses.fields(node)}
    for name, value in vars(node).items():
        yield prefix + name, value, known.get(name)
        for key, child in value.items() if isinstance(value, dict) else [("", value)]:
            if dataclasses.is_dataclass(child):
                yield from walk(child, f"{prefix}{name}.{key}{'.' if key else ''}")


def register_schemas() -> None:
    """Give Hydra the schemas, as ``schema`` at the root and in each group, and OmegaConf the resolvers of ``conf/``."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    from teddy.config.own_data import resolve
    from teddy.config.paths import groups

    store = ConfigStore.instance()
    store.store(name="schema", node=TeddyConfig)
    for group, node in GROUPS.items():
        store.store(group=group, name="schema", node=node)
    OmegaConf.register_new_resolver("teddy.groups", groups, replace=True)
    OmegaConf.register_new_resolver("own_data", resolve, replace=True)
