"""The types of every YAML file in ``conf/``: a key that is not here does not exist.

YAML holds the defaults, these classes hold the types; ``register_schemas`` gives them to Hydra, whose merge then names the
file and the key of any typo. ``Any`` stands only where a ``_target_`` is plugged in or where a word or a number may come.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

STAGES = ("pool", "synthesis", "labels", "evaluation", "report")


@dataclass
class AugmentConfig:
    """What teacher training does to a real image: random crop (padded, resized or none) and flip."""

    crop: str = MISSING
    padding: int = MISSING
    min_scale: float = MISSING
    flip: bool = MISSING


@dataclass
class DatasetConfig:
    """A real dataset; facts that are null are read from the data."""

    name: str = MISSING
    root: str | None = None
    source: Any = MISSING
    num_classes: int | None = None
    channels: int | None = None
    size: int | None = None
    resize: int | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    class_names: list[str] | None = None
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    holdout: float = MISSING
    per_class: int | None = None


@dataclass
class ModelConfig:
    """The network of the pool, by name (see :mod:`teddy.models.networks`)."""

    name: str = MISSING


@dataclass
class TrainingConfig:
    """Training of the base model, whose snapshots become the weak teachers (Table 6)."""

    epochs: int = MISSING
    lr: float = MISSING
    momentum: float = MISSING
    weight_decay: float = MISSING
    batch_size: int = MISSING
    schedule: str = MISSING
    step_size: int = MISSING
    gamma: float = MISSING
    warmup_epochs: int = MISSING
    save_every: int = MISSING


@dataclass
class SelectionConfig:
    """Which teachers make a pool: epochs of one training run (counted from 1), or copies of one well-trained ``base``.

    ``base`` is trained, pretrained or a file with weights, of which the strategy makes ``size`` members; null where the base
    model is untrained and its epochs count. ``last`` null means ``size`` members from ``first`` on, every ``every`` epochs.
    """

    strategy: Any = MISSING
    label: str = MISSING
    base: str | None = None
    first: int | None = None
    last: int | None = None
    every: int = 1
    size: int | None = None


@dataclass
class PoolConfig(SelectionConfig):
    """The run's own pool, and the training of the base model that all pools of the run share."""

    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass
class ViewConfig:
    """The random view of a block in each iteration of synthesis."""

    crop: bool = MISSING
    min_scale: float = MISSING
    flip: bool = MISSING
    shift: int = MISSING
    per_image: bool = MISSING


@dataclass
class SynthesisConfig:
    """Eq. 7 and the optimisation of the pixels (Table 7)."""

    ipc: int = MISSING
    iterations: int = MISSING
    plateau: float | None = None
    lr: float = MISSING
    betas: list[float] = MISSING
    weight_decay: float = MISSING
    bn_weight: float = MISSING
    ce_weight: float = MISSING
    first_bn_weight: float = MISSING
    batch_size: int = MISSING
    class_order: str = MISSING
    teachers_per_block: int = MISSING
    teacher_policy: str = MISSING
    initial: str = MISSING
    view: ViewConfig = field(default_factory=ViewConfig)
    blocks_at_once: int = MISSING
    compile: bool = MISSING
    sheet_every: int = MISSING
    checkpoint_every: int = MISSING


@dataclass
class LabelsConfig:
    """The views of the distilled images and who labels them."""

    kind: str = MISSING
    members: Any = MISSING
    member_policy: str = MISSING
    temperature: float = MISSING
    average: str = MISSING
    batch_size: int = MISSING
    epochs: int | None = None
    top_k: int | None = None
    mix: str = MISSING
    alpha: float = MISSING
    min_scale: float = MISSING
    flip: float = MISSING


@dataclass
class ProtocolConfig:
    """How a student is trained: what relatives of this paper call post-training or validation."""

    labels: str = MISSING
    augment: str = MISSING
    optimizer: str = MISSING
    lr: float = MISSING
    momentum: float = MISSING
    weight_decay: float = MISSING
    batch_size: int = MISSING
    epochs: int = MISSING
    schedule: str = MISSING
    eta: float = MISSING


@dataclass
class EvaluationConfig:
    """Students: architectures × seeds × protocols. Null epochs and batch size mean the protocol's own."""

    protocol: Any = MISSING
    protocols: dict[str, ProtocolConfig] = field(default_factory=dict)
    students: list[str] = MISSING
    seeds: Any = MISSING
    epochs: int | None = None
    batch_size: int | None = None
    split: str = MISSING
    together: int = MISSING
    divergence: bool = MISSING


@dataclass
class BaselineConfig:
    """A method to stand beside Teddy in the results; null means: as in the run itself."""

    images: str = MISSING
    pool: SelectionConfig | None = None
    teachers_per_block: int | None = None
    iterations: int | None = None


@dataclass
class TrainerConfig:
    """The machine: accelerator, number of devices, precision, loader workers, threads (null: the library's choice)."""

    accelerator: str = MISSING
    devices: int = MISSING
    precision: str = MISSING
    workers: int = MISSING
    threads: int | None = None


@dataclass
class LoggerConfig:
    """Weights & Biases beside the CSV files that are always written."""

    mode: str = MISSING
    project: str = MISSING
    entity: str | None = None


@dataclass
class TeddyConfig:
    """One run: everything that ``python -m teddy`` reads."""

    name: str = MISSING
    method: str = MISSING
    images: str = MISSING
    seed: int = MISSING
    store: str = MISSING
    stages: list[str] = MISSING
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    labels: LabelsConfig = field(default_factory=LabelsConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    baselines: dict[str, BaselineConfig] = field(default_factory=dict)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    paper: dict[str, list[float]] = field(default_factory=dict)


GROUPS = {
    "dataset": DatasetConfig,
    "model": ModelConfig,
    "pool": PoolConfig,
    "synthesis": SynthesisConfig,
    "labels": LabelsConfig,
    "evaluation": EvaluationConfig,
    "baseline": BaselineConfig,
    "trainer": TrainerConfig,
    "logger": LoggerConfig,
}


def register_schemas() -> None:
    """Gives the schemas to Hydra as ``schema`` at the root and in each group."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(name="schema", node=TeddyConfig)
    for group, node in GROUPS.items():
        store.store(group=group, name="schema", node=node)
