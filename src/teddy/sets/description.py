"""``teddy.json``: the facts about a synthetic set, whose types and ranges are checked when it is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat

from teddy.config.types import Count, Epoch, Positive
from teddy.labels.views import ViewRecipe
from teddy.pool.members import Member

Name = Annotated[str, Field(min_length=1, max_length=200)]


@dataclass(frozen=True)
class MethodFacts:
    """The method: its name in ``conf/method``, its title and its source."""

    name: Name
    title: str
    citation: str = ""


@dataclass(frozen=True)
class DatasetFacts:
    """The real dataset; see :class:`teddy.data.spec.DatasetSpec`."""

    name: str
    class_ids: tuple[Name, ...]
    class_names: tuple[str, ...]
    channels: Literal[1, 3]
    size: Annotated[int, Field(ge=1, le=4096)]
    mean: tuple[FiniteFloat, ...]
    std: tuple[Positive, ...]
    whitening: str | None = None  # a file of the folder
    boxes: str | None = None  # likewise

    def __post_init__(self) -> None:
        plain = [PurePosixPath(name).name == name != ".." and name.isprintable() for name in self.class_ids]
        if not self.class_ids or not all(plain) or list(self.class_ids) != sorted(set(self.class_ids)):
            raise ValueError("class_ids must be folder names in their order")
        if len(self.class_names) != len(self.class_ids):
            raise ValueError("class_names must be as many as class_ids")
        if {len(self.mean), len(self.std)} != {self.channels}:
            raise ValueError("mean and std must hold a number for each channel")


@dataclass(frozen=True)
class TeacherFacts:
    """A teacher that gave the labels."""

    network: Name
    epoch: float
    top1_holdout: float
    file: str | None = None  # its weights, where the labels need it still
    history: str | None = None  # of its pruning

    @classmethod
    def of(cls, member: Member, index: int, carried: bool) -> TeacherFacts:
        """The facts of a teacher; ``carried``: whether it is among the files."""
        name = f"teachers/{index:02d}"
        files = (f"{name}.safetensors", f"{name}.json" if member.history else None) if carried else ()
        return cls(member.network, member.epoch, member.top1_holdout, *files)


@dataclass(frozen=True)
class LabelFacts:
    """How views of the images are made and labelled; see :class:`teddy.labels.stage.LabelRecipe`."""

    kind: Literal["stored", "online", "fixed", "hard"]
    temperature: Positive
    view: ViewRecipe
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    epochs: Epoch | None = None  # that are stored
    top_k: Count | None = None
    batch_size: Count = 256  # views labelled at once: it may change the last bit of a logit, as the precision does
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    teachers: list[TeacherFacts] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.kind == "stored" and self.epochs is None:
            raise ValueError("epochs says how many the stored labels cover")


@dataclass(frozen=True)
class FileEntry:
    """A file of the folder."""

    size: Annotated[int, Field(ge=0)]  # bytes
    sha256: str


@dataclass(frozen=True)
class Description:
    """The content of ``teddy.json``."""

    name: str
    method: MethodFacts
    dataset: DatasetFacts
    ipc: Count
    labels: LabelFacts
    tiles: Annotated[int, Field(ge=1, le=64)] = 1
    learned_lr: Positive | None = None
    results: list[dict[str, Any]] = field(default_factory=list)  # of the run, by protocol, labels and network
    command: str = ""
    fingerprints: dict[str, str] = field(default_factory=dict)  # of what it was made from
    versions: dict[str, str] = field(default_factory=dict)
    files: dict[str, FileEntry] = field(default_factory=dict)  # all others of the folder, by path
    format: Literal[1] = 1
