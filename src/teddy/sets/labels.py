"""``labels.safetensors``: the stored logits of every view, which any reader of safetensors opens.

``logits`` (epochs, N, classes) in float16. With ``top_k`` they are the largest ones (epochs, N, k), with their indices as
``classes`` and the logit of every other class as ``rest`` (epochs, N).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from teddy.config.errors import UserError
from teddy.labels.compression import Compression
from teddy.labels.sources import SoftLabels, StoredLabels
from teddy.labels.views import ViewSource

LABELS = "labels.safetensors"
_TYPES = {"<f2": "F16", "|u1": "U8", "<u2": "U16", "<u4": "U32"}


def write_labels(stream: BinaryIO, labels: StoredLabels) -> None:
    """Write stored labels as safetensors, an epoch at a time, so that they may be larger than the memory."""
    epochs, count = labels.entries.shape[:2]
    header, end = {}, 0
    for name, kind in _parts(labels.compression).items():
        begin, end = end, end + epochs * count * kind.itemsize
        shape = [epochs, count, *kind.shape]
        header[name] = {"dtype": _TYPES[kind.base.str], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    stream.write(len(text).to_bytes(8, "little") + text)
    for name in header:
        for entries in labels.entries:
            part = entries[name] if entries.dtype.names else entries
            stream.write(np.ascontiguousarray(part).tobytes())


def _parts(compression: Compression) -> dict[str, np.dtype]:
    """The tensors of the file, each with the type of one view's part in it."""
    fields = compression.entry.fields
    return {"logits": compression.entry} if fields is None else {name: one[0] for name, one in fields.items()}


class SetLabels(SoftLabels):
    """Logits from ``labels.safetensors``; a student that trains longer than they last sees their epochs again.

    Raises:
        UserError: the file holds something else than ``shape`` (epochs, N) views in the format of ``compression``.
    """

    def __init__(self, path: Path, shape: tuple[int, int], compression: Compression, temperature: float) -> None:
        super().__init__(temperature)
        self.path, self.epochs, self.compression = path, shape[0], compression
        try:
            with safe_open(path, framework="np") as stream:
                for name, kind in _parts(compression).items():
                    part, wanted = stream.get_slice(name), [*shape, *kind.shape]
                    if (part.get_shape(), part.get_dtype()) != (wanted, _TYPES[kind.base.str]):
                        raise ValueError(f"{name} is {part.get_dtype()} {part.get_shape()} instead of {wanted}")
        except (OSError, SafetensorError, ValueError) as error:
            raise UserError(f"{path} does not hold this set's labels ({error}); fetch the set again.") from error

    def view_epoch(self, epoch: int) -> int:
        return epoch % self.epochs

    def logits(self, epoch: int, views: ViewSource) -> torch.Tensor:
        with safe_open(self.path, framework="np") as stream:
            parts = {name: stream.get_slice(name)[epoch] for name in _parts(self.compression)}
        entries = parts["logits"]
        if self.compression.entry.fields:
            entries = np.empty(len(entries), self.compression.entry)
            for name, part in parts.items():
                entries[name] = part
        return self.compression.unpack(entries, views.images.device)
