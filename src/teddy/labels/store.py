"""Soft labels on disk: one file with the pool's logits for every view of every epoch, indexed by (epoch, image).

The views themselves are made again from the seed. So training may use any batch size and order.
"""

from __future__ import annotations

import logging
import os
import time
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from teddy.artifacts.store import read_json, write_json
from teddy.config.errors import UserError
from teddy.labels.compression import Compression
from teddy.labels.sources import Labeller
from teddy.labels.views import ViewMaker
from teddy.runtime.progress import StageProgress

LOGITS = "logits.npy"
PROGRESS = "progress.json"
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
    """Write ``logits.npy`` (epochs, N, ...), or resume a killed run's, and return facts for the manifest.

    An epoch is done once it is on the disk and recorded in ``progress.json``, with a CRC-32 of all done so far; anything after
    that is overwritten. The bytes are those of an uninterrupted run. Two resume points are at least ``seconds`` apart.
    """
    count, classes, entry = len(views), compression.num_classes, compression.entry
    shape, epoch_bytes = (epochs, count, *entry.shape), count * entry.itemsize
    path, noted = folder / LOGITS, folder / PROGRESS
    path.touch()
    # Plain writes, not a memory map: a full disk must raise an exception, but kills a process that writes to a map.
    with path.open("r+b") as stream:
        header = {"descr": np.lib.format.dtype_to_descr(entry.base), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        begin = stream.tell()
        done, crc = _resume(stream, noted, epoch_bytes) if noted.is_file() else (0, 0)
        stream.truncate(begin + done * epoch_bytes)
        stream.seek(0, os.SEEK_END)
        synced = time.monotonic()
        with StageProgress("labels", epochs * count, "views", done=done * count) as progress:
            for epoch in range(done, epochs):
                for indices in torch.arange(count).split(batch_size):
                    logits = labeller(views(epoch, indices).images)
                    _check(logits, epoch)
                    entries = compression.pack(logits).tobytes()
                    stream.write(entries)
                    crc = zlib.crc32(entries, crc)
                    progress.advance(len(indices))
                if epoch + 1 == epochs or time.monotonic() - synced >= seconds:
                    stream.flush()
                    os.fsync(stream.fileno())
                    write_json(noted, {"epochs_done": epoch + 1, "crc32": crc})
                    synced = time.monotonic()
    size = round(path.stat().st_size / 1e6, 3)
    return {"epochs": epochs, "images": count, "classes": classes, "megabytes": size}


def _resume(stream: BinaryIO, noted: Path, epoch_bytes: int) -> tuple[int, int]:
    """Return how many epochs a killed run has left from here on, and their CRC-32; (0, 0) if they are not what it noted."""
    try:
        progress, crc = read_json(noted), 0
        for _ in range(progress["epochs_done"]):
            entries = stream.read(epoch_bytes)
            if len(entries) < epoch_bytes:
                raise ValueError
            crc = zlib.crc32(entries, crc)
        if progress["crc32"] != crc:
            raise ValueError
        return progress["epochs_done"], crc
    except (UserError, LookupError, TypeError, ValueError, AttributeError):
        _log.warning(f"{noted.parent / LOGITS} is not what {noted.name} says; its labels are computed again.")
        return 0, 0


def _check(logits: torch.Tensor, epoch: int) -> None:
    if not torch.isfinite(logits.to(torch.float16)).all():
        raise UserError(
            f"the teachers' logits in epoch {epoch} are not finite in float16; a teacher has diverged, so lower "
            "pool.training.lr or leave that teacher out."
        )
