"""Images that a program hands over: any torch Dataset of images with class indices, read into memory once."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from PIL import Image
from torchvision.transforms.functional import to_pil_image

from teddy.artifacts.fingerprint import fingerprint
from teddy.config.errors import UserError
from teddy.data.images import TensorImages, centre_square, to_mode, to_tensor
from teddy.data.sources.base import Loaded, numbered_ids


class GivenImages:
    """Training images and perhaps test images, as :func:`read_images` takes them.

    The classes have the names in the attribute ``classes`` of ``train``, which torchvision's datasets have, or else numbers.
    """

    def __init__(self, train: Any, test: Any = None, channels: int | None = None, size: int | None = None) -> None:
        self.train = read_images(train, channels, size)
        _, channels, size, _ = self.train.images.shape
        empty = TensorImages(self.train.images[:0], self.train.labels[:0])
        self.test = empty if test is None else read_images(test, channels, size)
        count = int(torch.cat([self.train.labels, self.test.labels]).max()) + 1
        self.names = tuple(map(str, getattr(train, "classes", range(count))))
        if not len(self.train.labels.unique()) == len(self.names) >= count:
            count = len(self.names)
            raise UserError(f"the dataset has not an image of each of its {count} classes; add or renumber some.")

    def check(self) -> None:
        pass  # all is in memory

    def fingerprint(self) -> str:
        return fingerprint({"source": "given", "images": [digest(self.train), digest(self.test)], "names": self.names})

    def load(self) -> Loaded:
        channels, size = self.train.images.shape[1:3]
        return Loaded(self.train, self.test, self.names, numbered_ids(self.names), channels, size)


def digest(images: TensorImages) -> str:
    """SHA-256 of images and labels."""
    return hashlib.sha256(images.images.contiguous().numpy().tobytes() + images.labels.numpy().tobytes()).hexdigest()


def read_images(items: Any, channels: int | None = None, size: int | None = None) -> TensorImages:
    """Read the pairs (image, class index) of a torch Dataset; UserError if an item is something else.

    An image is Pillow's, or a tensor (C, H, W) or (H, W), uint8 or floating point in [0, 1]. Without ``channels``, 1 or 3, it
    has those of the first one. With a ``size``, its shorter side is scaled to that and the centre cut.
    """
    images, labels = [], []
    if not (hasattr(items, "__getitem__") and hasattr(items, "__len__") and len(items)):
        raise UserError("the dataset must be a name, a folder, or a torch Dataset with indices and at least one image.")
    for index in range(len(items)):
        try:
            image, label = items[index]
            picture = _picture(image)
            channels = channels or (3 if len(picture.getbands()) > 1 or picture.mode == "P" else 1)
            picture = to_mode(picture, channels)
            images.append(to_tensor(centre_square(picture, size, size) if size else picture))
            labels.append(int(label))
            if images[-1].shape != (channels, *2 * images[0].shape[-1:]) or labels[-1] < 0:
                raise ValueError("not a square of the first one's size, or no class; dataset.size scales them")
        except (AttributeError, TypeError, ValueError, LookupError) as error:
            raise UserError(
                f"item {index} of the dataset is no pair (image, class index) ({error}); give Pillow images, or tensors "
                "(C, H, W) in uint8 or in [0, 1], without normalisation."
            ) from error
    return TensorImages(torch.stack(images), torch.tensor(labels))


def _picture(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if image.is_floating_point():
        if not (float(image.min()) >= 0 and float(image.max()) <= 1):
            raise ValueError("its values are not in [0, 1]")
        image = (image * 255).round().to(torch.uint8)
    if image.dtype != torch.uint8:
        raise ValueError(f"its values are {image.dtype}")
    picture: Image.Image = to_pil_image(image.cpu())
    return picture
