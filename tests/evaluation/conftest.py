"""A toy problem that a small network learns in a few epochs: a bright square in one of three columns, under noise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from teddy.data.images import TensorImages


def _blobs(n: int, seed: int, noise: float = 30.0) -> TensorImages:
    labels = torch.arange(n) % 3
    images = 110 + noise * torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    for index, label in enumerate(labels.tolist()):
        images[index, 0, 2:6, 2 * label : 2 * label + 3] += 70
    return TensorImages(images.clamp(0, 255).byte(), labels)


@pytest.fixture(scope="session")
def blobs() -> Callable[..., TensorImages]:
    """Makes n grey images of 8 x 8 pixels in three classes."""
    return _blobs
