"""A base training of seconds on the embedded images, for what pools are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from teddy.artifacts.store import ArtifactStore
from teddy.data.augment import Augmentation
from teddy.data.dataset import RealDataset
from teddy.data.sources.embedded import FashionMini
from teddy.pool.schedule import Recipe
from teddy.pool.trajectory import BaseTraining
from teddy.runtime.device import DeviceConfig
from teddy.runtime.loggers import RunLog

BRIEF = Recipe(
    epochs=3,
    lr=0.05,
    momentum=0.9,
    weight_decay=1e-4,
    batch_size=64,
    schedule="cosine",
    step_size=1,
    gamma=0.1,
    warmup_epochs=0,
)

MakeBase = Callable[..., BaseTraining]


@pytest.fixture(scope="session")
def fashion_mini() -> RealDataset:
    return RealDataset("fashion_mini", FashionMini())


@pytest.fixture(scope="session")
def make_base(fashion_mini: RealDataset) -> MakeBase:
    """Makes what a strategy works on, with its store in a folder."""

    def make(folder: Path, **changes: Any) -> BaseTraining:
        settings: dict[str, Any] = dict(
            dataset=fashion_mini,
            network="convnet3_w16",
            recipe=BRIEF,
            augment=Augmentation("padded", padding=2, flip=True),
            holdout=0.1,
            save_every=3,
            seed=3,
            device_config=DeviceConfig("cpu", "32-true"),
        )
        return BaseTraining(
            store=ArtifactStore(folder / "store"), log=RunLog(folder / "log"), **{**settings, **changes}
        )

    return make
