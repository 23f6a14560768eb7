"""Distilled images as a folder of lossless PNG files that any tool can read, and back, bit for bit."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from teddy.config.errors import BadInput
from teddy.data.images import TensorImages, pil_mode, read_image, to_tensor
from teddy.data.spec import DatasetSpec


def export_images(folder: Path, images: torch.Tensor, labels: torch.Tensor, spec: DatasetSpec) -> None:
    """Writes ``<folder>/<class id>/<number within the class>.png``, grey or RGB, in the layout of an image
    folder.

    Args:
        images: uint8 (N, C, H, W) as ``spec`` says.
        labels: class indices (N,); images of a class are numbered in the order in which they come.
    """
    assert images.dtype == torch.uint8 and images.shape[1:] == (spec.channels, spec.size, spec.size)
    count = [0] * spec.num_classes
    for image, label in zip(images.cpu(), labels.tolist(), strict=True):
        place = folder / spec.class_ids[label]
        place.mkdir(parents=True, exist_ok=True)
        pixels = image[0] if spec.channels == 1 else image.permute(1, 2, 0)
        # Not one by one atomic: the manifest, written last, vouches for the whole folder.
        Image.fromarray(pixels.contiguous().numpy()).save(place / f"{count[label]:04d}.png")
        count[label] += 1


def load_distilled(folder: Path, spec: DatasetSpec) -> TensorImages:
    """Reads what ``export_images`` wrote, ordered by class and number.

    Raises:
        BadInput: a class has no images, or an image is unreadable or does not fit the dataset.
    """
    images, labels = [], []
    for index, class_id in enumerate(spec.class_ids):
        paths = sorted((folder / class_id).glob("*.png"))
        if not paths:
            raise BadInput(f"{folder / class_id} holds no PNG image; every class of {spec.name} needs at least one.")
        for path in paths:
            picture = read_image(path)
            wanted = pil_mode(spec.channels), (spec.size, spec.size)
            if (picture.mode, picture.size) != wanted:
                raise BadInput(
                    f"{path} is {picture.mode} {picture.width} x {picture.height}, but {spec.name} has "
                    "images "
                    f"{wanted[0]} {spec.size} x {spec.size}; give the folder of this dataset's distilled "
                    "images."
                )
            images.append(to_tensor(picture))
            labels.append(index)
    return TensorImages(torch.stack(images), torch.tensor(labels))
