from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

torch.set_num_threads(1)


@pytest.fixture
def write_image() -> Callable[..., np.ndarray]:
    """Writes an image of random pixels that depend on ``seed`` only, and returns the pixels (H, W) or (H, W, 3)."""

    def write(path: Path, seed: int = 0, width: int = 8, height: int = 8, mode: str = "RGB") -> np.ndarray:
        shape = (height, width) if mode == "L" else (height, width, 3)
        pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return pixels

    return write
