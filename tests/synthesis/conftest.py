"""A toy dataset and what a method may read of it."""

from __future__ import annotations

import pytest
import torch

from teddy.artifacts.store import ArtifactStore
from teddy.data.dataset import RealDataset
from teddy.data.images import TensorImages
from teddy.data.sources.base import Loaded
from teddy.synthesis.method import Inputs


class ToySource:
    """Sixty 8-pixel grey images of three classes; the label of image i is i mod 3."""

    def check(self) -> None:
        pass

    def fingerprint(self) -> str:
        return "toy"

    def load(self) -> Loaded:
        images = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        train = TensorImages(images, torch.arange(3).repeat(20))
        return Loaded(train, train, ("a", "b", "c"), ("0_a", "1_b", "2_c"), channels=1, size=8)


@pytest.fixture
def inputs(tmp_path) -> Inputs:
    """The toy dataset, without a pool."""
    dataset = RealDataset("toy", ToySource(), mean=[0.4], std=[0.3])
    return Inputs(dataset, ArtifactStore(tmp_path / "store"), lambda: pytest.fail("no pool was needed"))
