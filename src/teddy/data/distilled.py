"""Distilled images as a folder of lossless PNG files that any tool can read."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from teddy.config.errors import UserError
from teddy.data.images import PIL_MODES, TensorImages, open_image, to_tensor
from teddy.data.spec import DatasetSpec
from teddy.data.tiles import decode_tiles

ANNOTATIONS = "annotations.json"  # COCO file beside the class folders, where the images have boxes


def export_images(folder: Path, images: torch.Tensor, labels: torch.Tensor, spec: DatasetSpec) -> None:
    """Write uint8 images (N, C, H, W) as ``<folder>/<class id>/<number within the class>.png``, grey or RGB."""
    assert images.dtype == torch.uint8 and images.shape[1:] == (spec.channels, spec.size, spec.size)
    count = [0] * spec.num_classes
    for image, label in zip(images.cpu(), labels.tolist(), strict=True):
        path = folder / spec.class_ids[label] / f"{count[label]:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = image[0] if spec.channels == 1 else image.permute(1, 2, 0)
        # Not atomic one by one: the manifest, written last, covers the whole folder.
        Image.fromarray(pixels.contiguous().numpy()).save(path)
        count[label] += 1


def load_distilled(folder: Path, spec: DatasetSpec, tiles: int = 1) -> TensorImages:
    """Read what ``export_images`` wrote, by class and number, with each of its tiles enlarged to an image.

    UserError if a class has no image, or one does not fit.
    """
    images, labels = [], []
    wanted = (PIL_MODES[spec.channels], (spec.size, spec.size))
    for index, class_id in enumerate(spec.class_ids):
        paths = sorted((folder / class_id).glob("*.png"))
        if not paths:
            raise UserError(f"{folder / class_id} holds no PNG image; every class of {spec.name} needs at least one.")
        for path in paths:
            with open_image(path, str(path)) as image:
                if (image.mode, image.size) != wanted:
                    raise UserError(
                        f"{path} is {image.mode} {image.width} x {image.height}, but {spec.name} has images {wanted[0]} "
                        f"{spec.size} x {spec.size}; give the folder of this dataset's distilled images."
                    )
                images.append(to_tensor(image))
            labels.append(index)
    return TensorImages(decode_tiles(torch.stack(images), tiles), torch.tensor(labels).repeat_interleave(tiles**2))
