"""``teddy.json``: everything that is to be known of a synthetic set, with types and ranges that are checked when it is read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field

from teddy.config.types import Count, Epoch, Positive
from teddy.labels.views import ViewRecipe
from teddy.pool.members import Member

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


@dataclass(frozen=True)
class MethodFacts:
    """The method by its name in ``conf/method`` and in prose."""

    name: Name
    title: str
    citation: str = ""


@dataclass(frozen=True)
class DatasetFacts:
    """The real dataset; see :class:`teddy.data.spec.DatasetSpec`. ``whitening`` is a file of the folder, ``boxes`` another."""

    name: str
    class_ids: list[Name]
    class_names: list[str]
    channels: Literal[1, 3]
    size: Annotated[int, Field(ge=1, le=4096)]
    mean: list[float]
    std: list[float]
    whitening: str | None = None
    boxes: str | None = None

    def __post_init__(self) -> None:
        known = [PurePosixPath(name).name == name and name.isprintable() and name != ".." for name in self.class_ids]
        if not all(known) or len(known) < 1 or self.class_ids != sorted(set(self.class_ids)):
            raise ValueError("class_ids must be folder names in their order")
        if len(self.class_names) != len(self.class_ids):
            raise ValueError("class_names must be as many as class_ids")
        finite = all(map(math.isfinite, (*self.mean, *self.std))) and all(one > 0 for one in self.std)
        if not finite or {len(self.mean), len(self.std)} != {self.channels}:
            raise ValueError("mean and std must hold a number for each channel")


@dataclass(frozen=True)
class TeacherFacts:
    """A teacher that gave the labels; ``file`` (weights) and ``history`` (of pruning) where the labels need it still."""

    network: Name
    epoch: float
    top1_holdout: float
    file: str | None = None
    history: str | None = None

    @classmethod
    def of(cls, member: Member, index: int, carried: bool) -> TeacherFacts:
        """The facts of a teacher; ``carried``: whether it is among the files."""
        names = [f"teachers/{index:02d}{end}" if carried else None for end in (".safetensors", ".json")]
        facts = member.network, member.epoch, member.top1_holdout
        return cls(*facts, file=names[0], history=names[1] if member.history else None)


@dataclass(frozen=True)
class LabelFacts:
    """How views of the images are made and labelled; see :class:`teddy.labels.stage.LabelRecipe`.

    Attributes:
        epochs: epochs of views in ``labels.safetensors``; None: nothing is stored.
        batch_size: views that are labelled at once; it may change the last bit of a logit, as ``precision`` does.
    """

    kind: Literal["stored", "online", "fixed", "hard"]
    temperature: Positive
    view: ViewRecipe
    seed: Seed
    epochs: Epoch | None = None
    top_k: Count | None = None
    batch_size: Count = 256
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    teachers: list[TeacherFacts] = field(default_factory=list)

    def __post_init__(self) -> None:
        view = self.view
        if not (0 < view.min_scale <= 1 and 0 <= view.flip <= 1 and 0 < view.alpha <= 1e7):
            raise ValueError("a number of view is out of its range")
        if view.mix not in ("cutmix", "none"):
            raise ValueError("view.mix must be cutmix or none")


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and SHA-256 of a file."""

    size: Annotated[int, Field(ge=0)]
    sha256: str


@dataclass(frozen=True)
class Description:
    """The content of ``teddy.json``.

    Attributes:
        results: of the run that made the set: one entry for each protocol, kind of labels and network, with the accuracy of each
            seed and, where the run has one, that of random real images.
        command: that made it.
        fingerprints: of what it was made from.
        files: every other file of the folder, by its path there.
    """

    name: str
    method: MethodFacts
    dataset: DatasetFacts
    ipc: Count
    labels: LabelFacts
    tiles: Annotated[int, Field(ge=1, le=64)] = 1
    learned_lr: float | None = None
    results: list[dict[str, Any]] = field(default_factory=list)
    command: str = ""
    fingerprints: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    files: dict[str, FileEntry] = field(default_factory=dict)
    format: Literal[1] = 1
