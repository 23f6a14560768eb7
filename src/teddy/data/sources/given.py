"""Images that a program hands over: any torch Dataset of images with class indices."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from PIL import Image

from teddy.artifacts.fingerprint import fingerprint
from teddy.config.errors import UserError
from teddy.data.images import PIL_MODES, TensorImages, centre_square, to_mode, to_tensor
from teddy.data.sources.base import Loaded, numbered_ids


class GivenImages:
    """The items ``(image, class index)`` of one or two datasets, read into memory once.

    An image is Pillow's, or a tensor (C, H, W) or (H, W), uint8 or floating point in [0, 1].

    Args:
        train: with the names of the classes as ``classes``, if it has any, as torchvision's have.
        test: None: there are no test images.
        size: scales the shorter side and cuts the centre; None leaves images of one size as they are.
    """

    def __init__(self, train: Any, test: Any = None, channels: int | None = None, size: int | None = None) -> None:
        names = getattr(train, "classes", None)
        self._train = _read(train, channels, size)
        channels, size = self._train.images.shape[1], self._train.images.shape[-1]
        self._test = _read([] if test is None else test, channels, size)
        count = max(int(part.labels.max()) + 1 for part in (self._train, self._test) if len(part))
        self.names = tuple(map(str, range(count) if names is None else names))
        if len(self.names) < count or len(self._train.labels.unique()) < len(self.names):
            raise UserError(
                f"the dataset needs training images of each of {max(count, len(self.names))} classes; add some."
            )

    def check(self) -> None:
        pass  # all is in memory

    def fingerprint(self) -> str:
        parts = [part for each in (self._train, self._test) for part in (each.images, each.labels)]
        digests = [hashlib.sha256(part.contiguous().numpy().tobytes()).hexdigest() for part in parts]
        return fingerprint({"source": "given", "sha256": digests, "names": self.names})

    def load(self) -> Loaded:
        channels, size = self._train.images.shape[1:3]
        return Loaded(self._train, self._test, self.names, numbered_ids(self.names), channels, size)


def _read(items: Any, channels: int | None, size: int | None) -> TensorImages:
    images, labels = [], []
    for index in range(len(items)):
        try:
            image, label = items[index]
            picture = _picture(image)
            channels = channels or (3 if len(picture.getbands()) > 1 or picture.mode == "P" else 1)
            picture = to_mode(picture, channels)
            images.append(to_tensor(centre_square(picture, size, size) if size else picture))
            labels.append(int(label))
        except (TypeError, ValueError, LookupError) as error:
            raise UserError(
                f"item {index} of the dataset is no pair (image, class index) ({error}); give Pillow images, or tensors "
                "(C, H, W) in uint8 or in [0, 1], without normalisation."
            ) from error
        if images[-1].shape != images[0].shape or images[-1].shape[1] != images[-1].shape[2] or labels[-1] < 0:
            raise UserError(
                f"item {index} of the dataset is no square image of the first one's size with a class index; set dataset.size."
            )
    if not images:
        return TensorImages(torch.empty(0, channels or 1, size or 1, size or 1, dtype=torch.uint8), torch.empty(0))
    return TensorImages(torch.stack(images), torch.tensor(labels))


def _picture(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if not isinstance(image, torch.Tensor):
        raise TypeError(f"it holds {type(image).__name__}")
    if image.is_floating_point():
        if not (float(image.min()) >= 0 and float(image.max()) <= 1):
            raise ValueError("its values are not in [0, 1]")
        image = (image * 255).round()
    array = image.to(torch.uint8).cpu().reshape(-1, *image.shape[-2:]).numpy()
    return Image.fromarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0).copy(), PIL_MODES[len(array)])
