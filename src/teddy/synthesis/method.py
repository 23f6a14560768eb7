"""The interface of a method: how a synthetic set is made from real data and, perhaps, from a pool of teachers.

A method is a frozen dataclass, and its fields are the keys of its YAML file and its part of the fingerprint of the images. Most
methods optimise pixels and subclass :class:`teddy.synthesis.optimized.OptimizedMethod`; ``docs/own_method.md`` shows one.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from teddy.artifacts.store import Artifact, ArtifactStore, Outlook
from teddy.config.types import Count
from teddy.data.datamodule import stratified_split
from teddy.data.dataset import RealDataset
from teddy.data.images import ImageSet, Subset
from teddy.data.spec import DatasetSpec
from teddy.pool.members import ModelPool
from teddy.pool.strategy import PoolStrategy
from teddy.pool.trajectory import BaseTraining
from teddy.runtime.device import DeviceConfig
from teddy.runtime.loggers import RunLog
from teddy.runtime.progress import counted

LATER = "later"


def later(default: Any) -> Any:
    """A field that was added later: its default makes the images of before, and is left out of their fingerprints."""
    return field(default=default, metadata={LATER: True})


def untrained_teacher(strategy: PoolStrategy, base: BaseTraining) -> nn.Module:
    """The network of a pool's teachers before any training, to refuse one that a method cannot use (``check_run``)."""
    return (strategy.trainings(base) or [base])[0].build_network()


@dataclass(frozen=True)
class Needs:
    """What a method reads; it is made before synthesis, shared by the methods of a run, and part of the images' fingerprint."""

    pool: bool = False  # teachers: the method's own pool if it names one, else the run's
    data: bool = False  # real training images


class Inputs:
    """What a method may read, each thing made or opened when it is first asked for. Test images are not among it.

    A share of the training images is held out, as in the training of teachers.
    """

    def __init__(
        self,
        dataset: RealDataset,
        store: ArtifactStore,
        make_pool: Callable[[], ModelPool],
        holdout: float = 0.0,
        holdout_seed: int = 0,
    ) -> None:
        self._dataset, self._store, self._make_pool = dataset, store, make_pool
        self._holdout, self._holdout_seed = holdout, holdout_seed

    @property
    def spec(self) -> DatasetSpec:
        return self._dataset.spec

    @cached_property
    def train(self) -> ImageSet:
        """The real training images, without the held-out ones, on which settings are chosen."""
        train = self._dataset.train
        if not self._holdout:
            return train
        return Subset(train, stratified_split(train.labels, self._holdout, self._holdout_seed)[0])

    @cached_property
    def held(self) -> ImageSet:
        """The held-out training images, which no method may use."""
        train = self._dataset.train
        return Subset(train, stratified_split(train.labels, self._holdout, self._holdout_seed)[1])

    @property
    def _data(self) -> dict[str, Any]:
        held_out = {"holdout": [self._holdout, self._holdout_seed]} if self._holdout else {}
        return {"data": self._dataset.fingerprint, **held_out}

    @cached_property
    def pool(self) -> ModelPool:
        return self._make_pool()

    def artifact(self, kind: str, content: Mapping[str, Any], build: Callable[[Path], dict[str, Any]]) -> Artifact:
        """Something that is measured once and kept, such as statistics of the real data; see :meth:`ArtifactStore.produce`."""
        return self._store.produce(kind, {**content, **self._data}, build)

    def unclaimed_first(self, kind: str, contents: Sequence[Mapping[str, Any]]) -> Iterator[int]:
        """The order in which to ask for several such things; see :meth:`ArtifactStore.unclaimed_first`."""
        return self._store.unclaimed_first(kind, [{**content, **self._data} for content in contents])

    def fingerprints(self, needs: Needs) -> dict[str, Any]:
        return (self._data if needs.data else {}) | ({"pool": self.pool.fingerprint} if needs.pool else {})


@dataclass(frozen=True)
class Run:
    """The folder, the device and the settings of one synthesis."""

    folder: Path  # of the files of the making; what begins with a dot is removed when the set is finished
    device_config: DeviceConfig
    seed: int  # root of all random numbers, which are keyed by what they are for
    log: RunLog
    name: str = "synthesis"  # of the curves, such as synthesis/dm
    checkpoint_every: int = 0  # iterations between two points that a killed run resumes from; 0: none
    snapshot_every: int = 0  # iterations between two snapshots of the first images; 0: none
    probe_every: int = 0  # iterations between two student probes; 0: none


@dataclass(frozen=True)
class SyntheticSet:
    """What a method returns.

    With ``tiles`` above 1 an image holds so many rows and columns of tiles, and everything that reads the set sees each tile
    enlarged to the size of the image (:func:`teddy.data.tiles.decode_tiles`), as tiles^2 images of its class.
    """

    images: torch.Tensor  # uint8 (N, C, H, W), IPC images of each class
    labels: torch.Tensor  # class index of each image (N,)
    facts: dict[str, Any] = field(default_factory=dict)  # noted in the manifest
    tiles: int = 1


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A way to make a synthetic set. A pool of its own labels its images as well, under soft labels."""

    ipc: Count  # images per class
    title: str = field(default="", compare=False)  # name in tables and legends; no part of the fingerprint
    pool: Any = field(default=None, compare=False)  # strategy of the method's own pool; None: the run's

    __pydantic_config__: ClassVar[Any] = {"arbitrary_types_allowed": True}
    version: ClassVar[int] = 1  # raised when the same fields give other images than before
    baseline: ClassVar[bool] = False  # whether others are compared with it, as with real images
    citation: ClassVar[str] = ""

    def needs(self) -> Needs:
        return Needs(data=True)

    def check(self, members: int | None) -> None:  # noqa: B027 - most methods have nothing more to check
        """Raise UserError if the fields make no sense, before anything is read.

        ``members`` is the number of teachers of its pool, None where only the pool's strategy can tell.
        """

    def check_data(self, spec: DatasetSpec) -> None:  # noqa: B027 - optional
        """Raise UserError if the fields do not fit the dataset, before anything is trained."""

    def check_run(self, strategy: PoolStrategy, base: BaseTraining) -> None:  # noqa: B027 - optional
        """Raise UserError if the method does not work with its pool, whether or not it reads that, the data and the device."""

    @abstractmethod
    def synthesize(self, inputs: Inputs, run: Run) -> SyntheticSet:
        """Make the synthetic set. Every process of a run calls this; what the first one returns is saved."""

    def outlook(self, name: str, spec: DatasetSpec) -> Outlook:
        """What is known of the set before it is made, for the plan of a run."""
        count, tiles = spec.num_classes * self.ipc, getattr(self, "tiles", 1)
        size = count * spec.channels * spec.size**2  # of the pixels; PNG files have about this size, or less

        def stand_in(folder: Path) -> None:
            with (folder / "pixels").open("wb") as stream:
                stream.truncate(size)

        facts, alike = {"ipc": self.ipc, "tiles": tiles}, (repr(self), spec.num_classes, spec.size)
        return Outlook(f"{name}, {counted(count, 'image')}", facts, stand_in, alike, timed=not self.baseline)

    def content(self) -> dict[str, Any]:
        """What the images depend on besides the inputs: class, version and every field that takes part in comparisons."""
        fields = {
            one.name: getattr(self, one.name)
            for one in dataclasses.fields(self)
            if one.compare and not (LATER in one.metadata and getattr(self, one.name) == one.default)
        }
        return {"class": f"{type(self).__module__}.{type(self).__qualname__}", "version": self.version, **fields}
