"""Decoding a whole dataset once, and keeping the pixels in a file for the next run."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from teddy.artifacts.store import atomic_write
from teddy.config.errors import BadInput
from teddy.data.images import ImageSet, TensorImages

_CHUNK = 250
_log = logging.getLogger(__name__)


def decode(images: ImageSet) -> TensorImages:
    """All images of a set in memory, decoded by as many threads as there are cores."""
    chunks = np.array_split(np.arange(len(images)), max(1, len(images) // _CHUNK))
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        return TensorImages(torch.cat(list(threads.map(images.take, chunks))), images.labels)


def decode_once(train: ImageSet, test: ImageSet, folder: Path, key: str) -> tuple[TensorImages, TensorImages]:
    """Both splits in memory, from ``folder/<key>.safetensors`` if an earlier run has written it.

    Args:
        key: names the data and their geometry.

    Raises:
        BadInput: the kept file is damaged, or the folder cannot be written.
    """
    file = folder / f"{key}.safetensors"
    splits = {"train": train, "test": test}
    if not file.is_file():
        _log.info("Decoding %d images once into %s", len(train) + len(test), file)
        tensors = {name: decode(split).images for name, split in splits.items()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write(file, lambda path: save_file(tensors, path))
        except OSError as error:
            raise BadInput(
                f"{folder} cannot be written ({error.strerror}); set dataset.source.cache to null."
            ) from error
    else:
        try:
            tensors = load_file(file)
        except (OSError, SafetensorError) as error:
            raise BadInput(f"{file} cannot be read ({error}); delete it and run the command again.") from error
        if {name: len(pixels) for name, pixels in tensors.items()} != {
            name: len(split) for name, split in splits.items()
        }:
            raise BadInput(f"{file} does not belong to these data; delete it and run the command again.")
    return TensorImages(tensors["train"], train.labels), TensorImages(tensors["test"], test.labels)
