"""Soft labels on disk: one file with what the pool says about every view of every epoch.

Only logits are stored, indexed by (epoch, image) and in one of the forms of :mod:`teddy.labels.packing`; the views themselves
are made again from the seed. So training may use any batch size and order, and reads a few rows of a memory map instead of
unpickling a batch.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from teddy.artifacts.store import read_json, write_json
from teddy.config.errors import BadInput
from teddy.labels.packing import Packing
from teddy.labels.views import ViewMaker

LOGITS = "logits.npy"
PROGRESS = "progress.json"


def write_stored_labels(
    folder: Path,
    view_maker: ViewMaker,
    labeller: Callable[[torch.Tensor], torch.Tensor],
    epochs: int,
    num_samples: int,
    packing: Packing,
    batch_size: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    seconds: float = 0.0,
) -> dict[str, Any]:
    """Writes ``logits.npy`` (epochs, num_samples, ...), or goes on with a killed run's.

    Epochs count once they are on the disk and ``progress.json`` says so; what a kill left after it is written
    over. The bytes are those of an uninterrupted run.

    Args:
        folder: exists; belongs to this view maker, labeller, shape and packing alone.
        labeller: maps normalised images (B, C, H, W) to logits (B, classes).
        packing: the form of the labels, which the file's type and last axes are; all logits make a float16 file of shape
          (epochs, num_samples, classes).
        batch_size: how many views are made at once.
        on_progress: called with the number of labelled views and the total, at the start and after each
          batch.
        seconds: shortest time between two points to go on from; 0 makes one after each epoch.

    Returns:
        Facts for the manifest.

    Raises:
        BadInput: the labeller's output has another number of classes, or is not finite in float16.
    """
    shape = (epochs, num_samples, *packing.entry.shape)
    epoch_bytes = num_samples * packing.entry.itemsize
    path, header = folder / LOGITS, _header(shape, packing.entry.base)
    done = _epochs_done(folder, shape, len(header), epoch_bytes)
    # Plain writes, not a memory map: a full disk must end in an exception, and there a map ends in a signal.
    with path.open("r+b" if done else "wb") as stream:
        stream.write(header)
        stream.truncate(len(header) + done * epoch_bytes)
        stream.seek(0, os.SEEK_END)
        on_progress(done * num_samples, epochs * num_samples)
        synced = time.monotonic()
        for epoch in range(done, epochs):
            for start in range(0, num_samples, batch_size):
                stop = min(start + batch_size, num_samples)
                logits = labeller(view_maker(epoch, torch.arange(start, stop)).images)
                _check(logits, (stop - start, packing.num_classes), epoch)
                stream.write(packing.pack(logits).tobytes())
                on_progress(epoch * num_samples + stop, epochs * num_samples)
            if epoch + 1 == epochs or time.monotonic() - synced >= seconds:
                stream.flush()
                os.fsync(stream.fileno())
                write_json(folder / PROGRESS, {"shape": shape, "epochs_done": epoch + 1})
                synced = time.monotonic()
    return {
        "epochs": epochs,
        "images": num_samples,
        "classes": packing.num_classes,
        "megabytes": round(path.stat().st_size / 1e6, 3),
    }


def _epochs_done(folder: Path, shape: tuple[int, ...], header_bytes: int, epoch_bytes: int) -> int:
    """How many whole epochs an earlier run left; 0 where there is nothing to go on with."""
    path, progress = folder / LOGITS, folder / PROGRESS
    if not (path.is_file() and progress.is_file()):
        return 0
    noted = read_json(progress)
    on_disk = max(0, path.stat().st_size - header_bytes) // epoch_bytes
    return min(int(noted["epochs_done"]), on_disk) if noted["shape"] == list(shape) else 0


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    stream = io.BytesIO()
    entries = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, entries)
    return stream.getvalue()


def _check(logits: torch.Tensor, shape: tuple[int, int], epoch: int) -> None:
    if logits.shape != shape:
        raise BadInput(
            f"the teachers gave logits of shape {tuple(logits.shape)} for {shape[0]} images of {shape[1]}"
            " classes; use a pool that was trained on this dataset."
        )
    if not torch.isfinite(logits.to(torch.float16)).all():
        raise BadInput(
            f"the teachers' logits in epoch {epoch} are not finite in float16; a teacher has diverged, so"
            " lower pool.training.lr or leave that teacher out."
        )
