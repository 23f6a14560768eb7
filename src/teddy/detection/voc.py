"""Pascal VOC as its archives unpack: images, one XML file of boxes for each, and the lists of the two splits."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree

import torch
from PIL import Image

from teddy.artifacts.fingerprint import fingerprint
from teddy.config.errors import UserError
from teddy.data.images import FileImages, Indices, to_tensor
from teddy.data.sources.base import Loaded, numbered_ids
from teddy.detection.objects import Objects

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


class Letterboxed(FileImages):
    """Images scaled to fit a square of ``size`` pixels, at its upper left corner, with grey beside or below them."""

    def __init__(self, paths: list[Path], objects: list[Objects], size: int) -> None:
        super().__init__(paths, torch.zeros(len(paths)), 3, size)
        self.objects = objects

    def take(self, indices: Indices) -> torch.Tensor:
        canvases = torch.full((len(indices), 3, self.size, self.size), 128, dtype=torch.uint8)
        for canvas, index in zip(canvases, indices, strict=True):
            image = self.open(int(index))
            width, height = (max(1, round(side * self.size / max(image.size))) for side in image.size)
            canvas[:, :height, :width] = to_tensor(image.resize((width, height), Image.Resampling.BILINEAR))
        return canvases


class Voc:
    """Pascal VOC 2007: 5,011 training images (trainval) and 4,952 test images, of 20 classes, in squares of ``size`` pixels."""

    layout = (
        "unpack VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar of http://host.robots.ox.ac.uk/pascal/VOC/voc2007 in one "
        "folder and set dataset.root to VOCdevkit/VOC2007 in it."
    )

    def __init__(self, root: str | None, size: int) -> None:
        if root is None:
            raise UserError(f"dataset.root is not set; {self.layout}")
        self.root, self.size = Path(root).expanduser(), size

    def check(self) -> None:
        for path in ("JPEGImages", "Annotations", "ImageSets/Main/trainval.txt", "ImageSets/Main/test.txt"):
            if not (self.root / path).exists():
                raise UserError(f"dataset.root={self.root} has no {path}; {self.layout}")

    @cached_property
    def _files(self) -> dict[str, list[tuple[Path, Path]]]:
        self.check()
        found = {}
        for split in ("trainval", "test"):
            names = (self.root / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
            pairs = [
                (self.root / "JPEGImages" / f"{name}.jpg", self.root / "Annotations" / f"{name}.xml") for name in names
            ]
            if missing := next((path for pair in pairs for path in pair if not path.is_file()), None):
                raise UserError(f"{missing} is missing, though {split}.txt names it; {self.layout}")
            found[split] = pairs
        return found

    def fingerprint(self) -> str:
        files = {
            split: [(pair[0].name, *(path.stat().st_size for path in pair)) for pair in pairs]
            for split, pairs in self._files.items()
        }
        return fingerprint({"source": "voc", "files": files, "size": self.size})

    def load(self) -> Loaded:
        found = []
        for pairs in self._files.values():
            objects = [read_objects(path, self.size) for _, path in pairs]
            found.append(Letterboxed([path for path, _ in pairs], objects, self.size))
        return Loaded(found[0], found[1], CLASSES, numbered_ids(CLASSES), 3, self.size)


def read_objects(path: Path, size: int) -> Objects:
    """The objects in a VOC annotation, in pixels of the image after it was scaled to fit ``size``."""
    try:
        text = path.read_text(encoding="utf-8")
        if "<!DOCTYPE" in text:  # entities could make a small file fill the memory; VOC's files have none
            raise ValueError("it declares a document type")
        tree = ElementTree.fromstring(text)
        sides = [float(tree.findtext(f"size/{side}", "")) for side in ("width", "height")]
        found = tree.findall("object")
        corners = ("xmin", "ymin", "xmax", "ymax")
        boxes = torch.tensor([[float(one.findtext(f"bndbox/{c}", "")) for c in corners] for one in found]).reshape(
            -1, 4
        )
        labels = [CLASSES.index(one.findtext("name", "")) for one in found]
        if not min(sides) > 0 or not (boxes[:, 2:] >= boxes[:, :2]).all():
            raise ValueError("a side is not positive")
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{path} is no annotation of Pascal VOC ({error}); unpack it again.") from error
    boxes[:, :2] -= 1  # pixels are counted from 1 there, and the last one belongs to the box
    difficult = torch.tensor([one.findtext("difficult") == "1" for one in found], dtype=torch.bool)
    return Objects(boxes * size / max(sides), torch.tensor(labels, dtype=torch.int64), difficult)
