"""``labels.safetensors``: the pool's logits for every view of every epoch, indexed by (epoch, image).

The views themselves are made again from the seed. So training may use any batch size and order.
"""

from __future__ import annotations

import json
import logging
import os
import time
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from teddy.artifacts.store import read_json, write_json
from teddy.config.errors import UserError
from teddy.labels.compression import Compression
from teddy.labels.sources import Labeller, SoftLabels
from teddy.labels.views import ViewMaker, ViewSource
from teddy.runtime.progress import StageProgress

LABELS = "labels.safetensors"
PROGRESS = "progress.json"
_TYPES = {"<f2": "F16", "|u1": "U8", "<u2": "U16", "<u4": "U32"}
_log = logging.getLogger("teddy")


def write_stored_labels(
    folder: Path,
    views: ViewMaker,
    labeller: Labeller,
    epochs: int,
    compression: Compression,
    batch_size: int,
    seconds: float = 0.0,
) -> dict[str, Any]:
    """Write ``labels.safetensors``, or resume a killed run's, and return facts for the manifest.

    An epoch is done once it is on the disk and recorded in ``progress.json``, with a CRC-32 of all done so far; anything after
    that is overwritten. The bytes are those of an uninterrupted run. Two resume points are at least ``seconds`` apart.
    """
    count, path, noted = len(views), folder / LABELS, folder / PROGRESS
    path.touch()
    # Plain writes, not a memory map: a full disk must raise an exception, but kills a process that writes to a map.
    with path.open("r+b") as stream:
        places = allocate(stream, compression, epochs, count)
        done, crc = _resume(stream, noted, places) if noted.is_file() else (0, 0)
        synced = time.monotonic()
        with StageProgress("labels", epochs * count, "views", done=done * count) as progress:
            for epoch in range(done, epochs):
                entries = []
                for indices in torch.arange(count).split(batch_size):
                    logits = labeller(views(epoch, indices).images)
                    _check(logits, epoch)
                    entries.append(compression.pack(logits))
                    progress.advance(len(indices))
                for name, (begin, size) in places.items():
                    part = np.concatenate([one[name] for one in entries]).tobytes()
                    stream.seek(begin + epoch * size)
                    stream.write(part)
                    crc = zlib.crc32(part, crc)
                if epoch + 1 == epochs or time.monotonic() - synced >= seconds:
                    stream.flush()
                    os.fsync(stream.fileno())
                    write_json(noted, {"epochs_done": epoch + 1, "crc32": crc})
                    synced = time.monotonic()
    megabytes = round(path.stat().st_size / 1e6, 3)
    return {"epochs": epochs, "images": count, "classes": compression.num_classes, "megabytes": megabytes}


def allocate(stream: BinaryIO, compression: Compression, epochs: int, count: int) -> dict[str, tuple[int, int]]:
    """Write the header for labels of ``count`` images and give the file its size, without touching labels that it holds.

    Returns:
        By the tensors' names: where the first epoch begins in the file, and the bytes of an epoch.
    """
    header, places, end = {}, {}, 0
    # In the order of the safetensors library, where larger items come first, so that each lies at a multiple of its size.
    for name, kind in sorted(compression.parts.items(), key=lambda part: -part[1].base.itemsize):
        begin, end = end, end + epochs * count * kind.itemsize
        places[name] = begin, count * kind.itemsize
        shape = [epochs, count, *kind.shape]
        header[name] = {"dtype": _TYPES[kind.base.str], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    stream.write(len(text).to_bytes(8, "little") + text)
    data = stream.tell()
    stream.truncate(data + end)
    return {name: (data + begin, size) for name, (begin, size) in places.items()}


def _resume(stream: BinaryIO, noted: Path, places: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """Return how many epochs a killed run has left, and their CRC-32; (0, 0) if they are not what it noted."""
    try:
        progress, crc = read_json(noted), 0
        for epoch in range(progress["epochs_done"]):
            for begin, size in places.values():
                stream.seek(begin + epoch * size)
                crc = zlib.crc32(stream.read(size), crc)
        if progress["crc32"] != crc:
            raise ValueError
        return progress["epochs_done"], crc
    except (UserError, LookupError, TypeError, ValueError, AttributeError):
        _log.warning(f"{noted.parent / LABELS} is not what {noted.name} says; its labels are computed again.")
        return 0, 0


def _check(logits: torch.Tensor, epoch: int) -> None:
    if not torch.isfinite(logits.to(torch.float16)).all():
        raise UserError(
            f"the teachers' logits in epoch {epoch} are not finite in float16; a teacher has diverged, so lower "
            "pool.training.lr or leave that teacher out."
        )


class StoredLabels(SoftLabels):
    """Logits from ``labels.safetensors``, read an epoch at a time; a student that trains longer sees them again.

    Raises:
        UserError: the file holds something else than ``shape`` (epochs, N) views in the format of ``compression``.
    """

    def __init__(self, path: Path, shape: tuple[int, int], compression: Compression, temperature: float) -> None:
        super().__init__(temperature)
        self.path, self.epochs, self.compression = path, shape[0], compression
        try:
            with safe_open(path, framework="np") as stream:  # which compares the header with the size of the file
                for name, kind in compression.parts.items():
                    part, wanted = stream.get_slice(name), [*shape, *kind.shape]
                    if (part.get_shape(), part.get_dtype()) != (wanted, _TYPES[kind.base.str]):
                        raise ValueError(f"{name} is {part.get_dtype()} {part.get_shape()} instead of {wanted}")
        except (OSError, SafetensorError, ValueError) as error:
            raise UserError(f"{path} does not hold this set's labels ({error}); fetch the set again.") from error

    def view_epoch(self, epoch: int) -> int:
        return epoch % self.epochs

    def logits(self, epoch: int, views: ViewSource) -> torch.Tensor:
        with safe_open(self.path, framework="np") as stream:
            entries = {name: stream.get_slice(name)[epoch] for name in self.compression.parts}
        return self.compression.unpack(entries, views.images.device)
