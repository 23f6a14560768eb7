"""What every source of real images offers.

A source is made and checked before torch is loaded: its file imports torch and the image sets where it opens the data, so that a
wrong key or folder is refused at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from teddy.data.images import ImageSet


@dataclass(frozen=True)
class Loaded:
    """A dataset that has been opened: its two splits and what the data say about themselves.

    Attributes:
        class_names: what people call the classes, by class index.
        class_ids: folder names whose sorted order is the index order.
        channels: 1 or 3.
        size: height and width in pixels.
        mean: per-channel mean of the training images in [0, 1] units, where the source knows it.
        std: per-channel standard deviation, likewise.
    """

    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]
    class_ids: tuple[str, ...]
    channels: int
    size: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


class Source(Protocol):
    """A place that real images come from."""

    def check(self) -> None:
        """Looks whether the data lie where they should, at no cost: nothing is listed, read or fetched.

        Raises:
            BadInput: they do not.
        """

    def fingerprint(self) -> str:
        """Sixteen hex digits that change when the data change and stay when the data are moved."""

    def load(self) -> Loaded:
        """Opens the data.

        Raises:
            BadInput: the data are missing, incomplete or unreadable; the message says what to put where.
        """


def numbered_ids(names: Sequence[str]) -> tuple[str, ...]:
    """Folder names such as ``03_dress`` that sort in index order whatever the names are."""
    width = max(2, len(str(len(names) - 1)))
    words = ("".join(c if c.isalnum() else "_" for c in name.lower()).strip("_") for name in names)
    return tuple(f"{index:0{width}d}_{word}" for index, word in enumerate(words))
