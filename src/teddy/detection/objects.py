"""The objects of an image: boxes with classes, and the COCO file that keeps those of a distilled set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from teddy.artifacts.store import read_json
from teddy.config.errors import UserError
from teddy.data.images import ImageSet, Subset, TensorImages

Target = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Objects:
    """The objects of one image: left, top, right, bottom in pixels of the square image (n, 4), and class indices (n,) from 0.

    Difficult ones (n,), None if none is, are not learned from, and are neither right nor wrong to find.
    """

    boxes: torch.Tensor
    labels: torch.Tensor
    difficult: torch.Tensor | None = None

    def easy(self) -> Objects:
        """The objects that are learned from."""
        return self if self.difficult is None else Objects(self.boxes[~self.difficult], self.labels[~self.difficult])

    def mirrored(self, size: int) -> Objects:
        """The objects after left and right have changed places in an image of ``size`` pixels."""
        left, top, right, bottom = self.boxes.unbind(1)
        return replace(self, boxes=torch.stack([size - right, top, size - left, bottom], 1))

    def target(self, device: torch.device) -> Target:
        """What torchvision's detectors learn from; class 0 is the background there."""
        return {"boxes": self.easy().boxes.to(device), "labels": self.easy().labels.to(device) + 1}

    def truth(self) -> Target:
        """What torchmetrics compares detections with; difficult objects count as COCO's crowds."""
        crowd = torch.zeros_like(self.labels) if self.difficult is None else self.difficult.long()
        return {"boxes": self.boxes, "labels": self.labels + 1, "iscrowd": crowd}


class Scenes(TensorImages):
    """Images in memory with their objects. They have no class of their own: their labels are zeros."""

    def __init__(self, images: torch.Tensor, objects: Sequence[Objects]) -> None:
        super().__init__(images, torch.zeros(len(images)))
        self.objects = objects


def objects_of(images: ImageSet, index: int) -> Objects:
    """The objects of an image of a set or of a part of it; UserError if the dataset knows no boxes."""
    if isinstance(images, Subset):
        return objects_of(images.base, int(images.indices[index]))
    if not hasattr(images, "objects"):
        raise UserError("evaluation=detection needs images with boxes; choose dataset=voc or dataset=shapes.")
    found: Objects = images.objects[index]
    return found


def write_coco(path: Path, objects: Sequence[Objects], files: Sequence[str], size: int, names: Sequence[str]) -> None:
    """Write the objects of the images in ``files``, each ``size`` pixels wide and high, as a COCO annotation file."""
    boxes = [(image, *one) for image, some in enumerate(objects) for one in zip(some.boxes, some.labels, strict=True)]
    annotations = []
    for number, (image, box, label) in enumerate(boxes, start=1):
        x, y, right, bottom = box.tolist()
        place = {"bbox": [x, y, right - x, bottom - y], "area": (right - x) * (bottom - y), "iscrowd": 0}
        annotations.append({"id": number, "image_id": image, "category_id": int(label) + 1, **place})
    images = [{"id": number, "file_name": file, "width": size, "height": size} for number, file in enumerate(files)]
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}, indent=1))


def read_coco(path: Path) -> tuple[list[Objects], int]:
    """The objects of each image, in the order of their numbers, and the number of classes, of a file written here."""
    content = read_json(path)
    found = []
    for image in content["images"]:
        own = [one for one in content["annotations"] if one["image_id"] == image["id"]]
        boxes = torch.tensor([one["bbox"] for one in own], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found.append(Objects(boxes, torch.tensor([one["category_id"] - 1 for one in own], dtype=torch.int64)))
    return found, len(content["categories"])
