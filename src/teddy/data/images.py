"""Sets of labelled images that give any of their members as one uint8 batch: from memory, or from files on
demand.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image

from teddy.config.errors import BadInput

Indices = Sequence[int] | np.ndarray | torch.Tensor
Box = tuple[int, int, int, int]


@runtime_checkable
class ImageSet(Protocol):
    """Labelled images of one size.

    Attributes:
        labels: class indices (N,), int64.
    """

    labels: torch.Tensor

    def __len__(self) -> int: ...

    def take(self, indices: Indices) -> torch.Tensor:
        """The images at ``indices`` in evaluation geometry, uint8 (n, C, H, W)."""


class TensorImages:
    """Images that lie in memory as one tensor."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Takes uint8 images (N, C, H, W) and their labels (N,)."""
        assert images.dtype == torch.uint8 and images.ndim == 4 and len(images) == len(labels)
        self.images = images
        self.labels = labels.long()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Indices) -> torch.Tensor:
        """The images at ``indices``, uint8 (n, C, H, W)."""
        return self.images[torch.as_tensor(indices, dtype=torch.int64)]


class DecodedImages:
    """Images that are decoded when asked for; a subclass says in ``open`` where the encoded bytes are.

    Two geometries: evaluation (``take``: shorter side to ``resize`` pixels, then the centre ``size`` x
    ``size``) and a free crop (``crop``: a box of the undistorted image scaled to ``size`` x ``size``), which
    teacher training uses.
    """

    def __init__(self, labels: torch.Tensor, channels: int, size: int, resize: int | None = None) -> None:
        """Takes the labels (N,); ``resize=None`` scales the shorter side to ``size`` itself."""
        self.labels = labels.long()
        self.channels = channels
        self.size = size
        self.resize = resize or size

    def __len__(self) -> int:
        return len(self.labels)

    def open(self, index: int) -> Image.Image:
        """The decoded image in mode L or RGB, at its own size."""
        raise NotImplementedError

    def take(self, indices: Indices) -> torch.Tensor:
        """The images at ``indices`` in evaluation geometry, uint8 (n, C, size, size)."""
        images = [to_tensor(centre_square(self.open(int(i)), self.size, self.resize)) for i in indices]
        return torch.stack(images) if images else torch.empty(0, self.channels, self.size, self.size, dtype=torch.uint8)

    def crop(self, image: Image.Image, box: Box) -> torch.Tensor:
        """A box (top, left, height, width; pixels) of an opened image as uint8 (C, size, size), antialiased
        bilinear.
        """
        top, left, height, width = box
        resampling = Image.Resampling.BILINEAR
        return to_tensor(image.crop((left, top, left + width, top + height)).resize((self.size, self.size), resampling))


class FileImages(DecodedImages):
    """Images in one file each."""

    def __init__(
        self, paths: Sequence[Path], labels: torch.Tensor, channels: int, size: int, resize: int | None = None
    ) -> None:
        """Takes one path per label (N,)."""
        assert len(paths) == len(labels)
        super().__init__(labels, channels, size, resize)
        self.paths = list(paths)

    def open(self, index: int) -> Image.Image:
        """The decoded image in mode L or RGB, at its own size.

        Raises:
            BadInput: the file cannot be read as an image.
        """
        return read_image(self.paths[index], self.channels)


class Subset:
    """Some images of another set, in the order of ``indices``; nothing is copied."""

    def __init__(self, images: ImageSet, indices: Indices) -> None:
        self.base = images
        self.indices = torch.as_tensor(indices, dtype=torch.int64)
        self.labels = images.labels[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, indices: Indices) -> torch.Tensor:
        """The images at ``indices`` of this subset, uint8 (n, C, H, W)."""
        return self.base.take(self.indices[torch.as_tensor(indices, dtype=torch.int64)])


def subset(images: ImageSet, indices: Indices) -> ImageSet:
    """The images at ``indices`` as a set of their own."""
    if isinstance(images, TensorImages):
        return TensorImages(images.take(indices), images.labels[torch.as_tensor(indices, dtype=torch.int64)])
    return Subset(images, indices)


def pil_mode(channels: int) -> str:
    """Pillow's mode for 1 or 3 channels."""
    return {1: "L", 3: "RGB"}[channels]


def read_image(path: Path, channels: int | None = None) -> Image.Image:
    """One image file, fully decoded, in mode L or RGB (as it is when ``channels`` is None).

    Raises:
        BadInput: the file is missing, cut short or no image.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return image.convert(pil_mode(channels)) if channels else image.copy()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput(f"{path} cannot be read as an image ({error}); replace or remove the file.") from error


def centre_square(image: Image.Image, size: int, resize: int) -> Image.Image:
    """Scales the shorter side to ``resize`` (antialiased) and cuts the centre ``size`` x ``size``."""
    width, height = image.size
    short = min(width, height)
    if short != resize:
        # The longer side is cut to whole pixels, as torchvision's Resize does.
        width, height = int(resize * width / short), int(resize * height / short)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    if (width, height) == (size, size):
        return image
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def to_tensor(image: Image.Image) -> torch.Tensor:
    """A Pillow image of mode L or RGB as uint8 (C, H, W)."""
    array = np.array(image, dtype=np.uint8)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())
