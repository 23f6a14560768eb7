"""What blocks and noise do to real images."""

from __future__ import annotations

from pathlib import Path

import torch

from teddy.artifacts.store import ArtifactStore
from teddy.data.dataset import RealDataset
from teddy.data.sources.embedded import FashionMini
from teddy.methods.random import Random
from teddy.runtime.device import resolve_device
from teddy.runtime.loggers import RunLog
from teddy.synthesis.method import Inputs, Method, Run
from teddy.theory.degraded import Degraded


def made(method: Method, folder: Path) -> torch.Tensor:
    inputs = Inputs(RealDataset("fashion_mini", FashionMini()), ArtifactStore(folder), make_pool=NotImplemented)
    run = Run(folder, resolve_device("cpu", "32-true"), 0, RunLog(folder))
    return method.synthesize(inputs, run).images.double()


def test_without_either_they_are_the_random_images(tmp_path: Path) -> None:
    assert torch.equal(made(Degraded(ipc=2), tmp_path), made(Random(ipc=2), tmp_path))


def test_blocks_are_means_of_their_pixels(tmp_path: Path) -> None:
    real, found = made(Random(ipc=2), tmp_path), made(Degraded(ipc=2, blur=4), tmp_path)
    assert torch.equal(found[:, :, 8:12, 4:8], found[:, :, 8:9, 4:5].expand(-1, -1, 4, 4))
    torch.testing.assert_close(found[:, 0, 9, 5], real[:, 0, 8:12, 4:8].mean((1, 2)), rtol=0, atol=0.5 + 1e-4)


def test_noise_has_its_standard_deviation(tmp_path: Path) -> None:
    real, found = made(Random(ipc=5), tmp_path), made(Degraded(ipc=5, noise=0.1), tmp_path)
    inside = (real > 100) & (real < 155)  # nowhere near the ends, where the noise is cut off
    assert abs(float((found - real)[inside].std()) / 25.5 - 1) < 0.05
