"""The interface of a source of real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from teddy.data.images import ImageSet


@dataclass(frozen=True)
class Loaded:
    """An opened dataset; for the facts see :class:`teddy.data.spec.DatasetSpec`."""

    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]
    class_ids: tuple[str, ...]
    channels: int
    size: int
    drawn: dict[str, list[str]] | None = None  # names of the files of both splits, if these were not given but drawn
    remark: str = ""  # a sentence on the images for the beginning of a run


class Source(Protocol):
    """A source of real images."""

    def check(self) -> None:
        """Raise UserError if the data are not where they should be, without listing, reading or downloading them."""

    def fingerprint(self) -> str:
        """Sixteen hex digits that change when the data change and stay when the data are moved."""

    def load(self) -> Loaded:
        """Open the data; UserError, which names the remedy, if they are missing, incomplete or unreadable."""


def numbered_ids(names: Sequence[str]) -> tuple[str, ...]:
    """Folder names such as ``03_dress`` that sort in index order whatever the class names are."""
    width = max(2, len(str(len(names) - 1)))
    slugs = ("".join(c if c.isalnum() else "_" for c in name.lower()).strip("_") for name in names)
    return tuple(f"{index:0{width}d}_{slug}" for index, slug in enumerate(slugs))
