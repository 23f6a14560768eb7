"""Decoding of a whole dataset into memory, and a file that keeps the pixels for later runs."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from teddy.config.errors import UserError
from teddy.data.images import ImageSet, TensorImages

_log = logging.getLogger(__name__)


def decode(images: ImageSet) -> TensorImages:
    """Decode all images of a set into memory, with as many threads as there are cores."""
    chunks = np.array_split(np.arange(len(images)), max(1, len(images) // 250))
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        return TensorImages(torch.cat(list(threads.map(images.take, chunks))), images.labels)


def decode_once(train: ImageSet, test: ImageSet, folder: Path, key: str) -> tuple[TensorImages, TensorImages]:
    """Load both splits from ``folder/<key>.safetensors``, which the first run writes; UserError if it cannot be written."""
    from teddy.runtime.resume import load_point, save_point  # imports Lightning, which a check can do without

    file = folder / f"{key}.safetensors"
    tensors, _ = load_point(file) or ({}, None)
    if not tensors:
        _log.info("Decoding %d images once into %s", len(train) + len(test), file)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tensors = {"train": decode(train).images, "test": decode(test).images}
            save_point(file, tensors, None)
        except OSError as error:
            raise UserError(f"{folder} cannot be written ({error}); set dataset.source.cache to null.") from error
    return TensorImages(tensors["train"], train.labels), TensorImages(tensors["test"], test.labels)
