"""Sets of labelled images that return any of their members as one uint8 batch, from memory or decoded on demand."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image

from teddy.config.errors import UserError

Indices = Sequence[int] | np.ndarray | torch.Tensor
Header = tuple[str, tuple[int, int]]  # Pillow's mode of an image, and its width and height

GREY_MODES = frozenset({"L", "1", "I;16", "I;16B"})  # Pillow's modes of images with one channel
PIL_MODES = {1: "L", 3: "RGB"}  # Pillow's mode by the number of channels
FITS = ("crop", "stretch")  # ways to make a square of an image that is none
_WIDE_MODES = ("I", "F")  # Pillow's modes of pixels without a known range


@runtime_checkable
class ImageSet(Protocol):
    """Labelled images of one size."""

    labels: torch.Tensor  # class indices (N,), int64

    def __len__(self) -> int: ...

    def take(self, indices: Indices) -> torch.Tensor:
        """Return the images at ``indices`` in evaluation geometry, uint8 (n, C, H, W)."""


class TensorImages:
    """Images in memory: one uint8 tensor (N, C, H, W) and its labels (N,)."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        assert images.dtype == torch.uint8 and images.ndim == 4 and len(images) == len(labels)
        self.images, self.labels = images, labels.long()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Indices) -> torch.Tensor:
        return self.images[torch.as_tensor(indices, dtype=torch.int64)]


class DecodedImages(ABC):
    """Images that are decoded on demand; a subclass implements ``opened``.

    There are two geometries. Evaluation (``take``) scales the shorter side to ``resize`` pixels, or ``size``, and cuts the centre
    ``size`` x ``size``; ``fit="stretch"`` scales both sides. Teacher training (``crop``) cuts a box out of the undistorted
    image and scales it to ``size`` x ``size``.
    """

    def __init__(
        self, labels: torch.Tensor, channels: int, size: int, resize: int | None = None, fit: str = "crop"
    ) -> None:
        self.labels, self.channels, self.size, self.resize = labels.long(), channels, size, resize or size
        self.fit = fit

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def opened(self, index: int) -> AbstractContextManager[Image.Image]:
        """Open an image, of which no more than the header is read; UserError if that cannot be done."""

    def header(self, index: int) -> Header:
        with self.opened(index) as image:
            return image.mode, image.size

    def headers(self) -> set[Header]:
        """The headers of a hundred images, evenly spaced; nothing is decoded."""
        return {self.header(index) for index in range(0, len(self), max(1, len(self) // 100))}

    def open(self, index: int) -> Image.Image:
        """Decode an image to mode L or RGB, at its own size; UserError if that cannot be done."""
        with self.opened(index) as image:
            return to_mode(image, self.channels)

    def open_all(self, indices: Sequence[int]) -> Iterator[Image.Image]:
        """Decode several images, one after the other; a subclass may have a faster way to read them."""
        return map(self.open, indices)

    def take(self, indices: Indices) -> torch.Tensor:
        opened = self.open_all([int(index) for index in indices])
        stretch = self.fit == "stretch"
        images = [to_tensor(centre_square(image, self.size, self.resize, stretch)) for image in opened]
        return torch.stack(images) if images else torch.empty(0, self.channels, self.size, self.size, dtype=torch.uint8)

    def crop(self, image: Image.Image, top: int, left: int, height: int, width: int) -> torch.Tensor:
        """Cut a box, in pixels, out of an opened image and scale it: uint8 (C, size, size), antialiased bilinear."""
        inside = image.crop((left, top, left + width, top + height))
        return to_tensor(inside.resize((self.size, self.size), Image.Resampling.BILINEAR))


class FileImages(DecodedImages):
    """Images in one file each, one path per label."""

    def __init__(
        self,
        paths: Sequence[str | Path],
        labels: torch.Tensor,
        channels: int,
        size: int,
        resize: int | None = None,
        fit: str = "crop",
    ) -> None:
        super().__init__(labels, channels, size, resize, fit)
        self.paths = paths

    def opened(self, index: int) -> AbstractContextManager[Image.Image]:
        return open_image(self.paths[index], str(self.paths[index]))


class Subset:
    """Some images of another set, in the order of ``indices``, without a copy."""

    def __init__(self, images: ImageSet, indices: Indices) -> None:
        self.base = images
        self.indices = torch.as_tensor(indices, dtype=torch.int64)
        self.labels = images.labels[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, indices: Indices) -> torch.Tensor:
        return self.base.take(self.indices[torch.as_tensor(indices, dtype=torch.int64)])


def subset(images: ImageSet, indices: Indices) -> ImageSet:
    """Make a set of the images at ``indices``; a copy if ``images`` are plain ones in memory."""
    part = Subset(images, indices)
    return TensorImages(images.take(indices), part.labels) if type(images) is TensorImages else part


@contextmanager
def open_image(file: str | Path | io.BytesIO, name: str) -> Iterator[Image.Image]:
    """Open an image file, of which Pillow reads the header alone; UserError, which calls it ``name``, if it is no image."""
    try:
        with Image.open(file) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or 0):  # up to twice as many, Pillow only warns
                raise ValueError(f"it announces {image.width} x {image.height} pixels")
            yield image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{name} cannot be read as an image ({error}); replace or remove it.") from error


def to_mode(image: Image.Image, channels: int) -> Image.Image:
    """Convert an image to mode L or RGB: 16 bits to 8, no transparency, the first frame of several, else by Pillow's rules."""
    if image.mode in _WIDE_MODES:
        raise ValueError(f"its pixels are numbers without a known range, mode {image.mode}; convert it to 8 bits")
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))  # 65535 / 257 = 255
    if image.mode in ("P", "PA") and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(PIL_MODES[channels])


def centre_square(image: Image.Image, size: int, resize: int, stretch: bool = False) -> Image.Image:
    """Scale the shorter side, or both, to ``resize`` (antialiased) and cut the centre ``size`` x ``size``."""
    if image.size == (size, size) == (resize, resize):
        return image
    from torchvision.transforms import functional  # takes more than a second

    return functional.center_crop(functional.resize(image, [resize] * (1 + stretch)), [size])


def to_tensor(image: Image.Image) -> torch.Tensor:
    """Convert a Pillow image of mode L or RGB to uint8 (C, H, W)."""
    array = np.array(image, dtype=np.uint8)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())
