"""A synthetic set that was made elsewhere, measured beside others: its images as they are."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from teddy.config.errors import UserError
from teddy.config.types import Count
from teddy.data.spec import DatasetSpec
from teddy.methods.foreign_images import content_of, read_foreign
from teddy.synthesis.method import Inputs, Method, Run, SyntheticSet

KEY = "methods.foreign"
_log = logging.getLogger("teddy")


@dataclass(frozen=True, kw_only=True)
class Foreign(Method):
    """The first IPC images of each class of a set; the fingerprint covers the content of its files, not their place."""

    path: str | None = field(compare=False)  # in a form of :mod:`teddy.methods.foreign_images`
    tiles: Count  # rows and columns of tiles in an image, each of which students see enlarged

    def content(self) -> dict[str, Any]:
        return super().content() | {"files": content_of(Path(self.path or ""))}

    def check_data(self, spec: DatasetSpec) -> None:
        if self.path is None:
            raise UserError(f"{KEY}.path is not set; name a set of images.")
        least = min(read_foreign(Path(self.path), spec).counts)
        if least < self.ipc:
            raise UserError(
                f"{self.path} has a class of {least} images, fewer than {KEY}.ipc={self.ipc}; set synthesis.ipc={least}, which "
                "takes the first so many of each class."
            )

    def synthesize(self, inputs: Inputs, run: Run) -> SyntheticSet:
        found = read_foreign(Path(self.path or ""), inputs.spec)
        for note in found.notes:
            _log.info("%s: %s", self.path, note)
        chosen = torch.cat([(found.labels == label).nonzero()[: self.ipc, 0] for label in found.labels.unique()])
        return SyntheticSet(found.images[chosen], found.labels[chosen], {"notes": list(found.notes)}, self.tiles)
