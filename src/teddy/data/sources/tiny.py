"""Tiny-ImageNet in the tree that its archive unpacks to."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path

from teddy.config.errors import UserError
from teddy.data.sources.folders import ImageFolder
from teddy.data.sources.listing import Samples, require_classes


class TinyImageNet(ImageFolder):
    """Tiny-ImageNet: 500 + 50 images of 64 x 64 pixels in each of 200 classes, numbered by sorted WordNet id.

    Its official test images have no labels, so the official validation images are the test split, as everywhere.
    """

    kind = "tiny_imagenet"
    public = True
    test_folders = ("val",)
    layout = "unpack http://cs231n.stanford.edu/tiny-imagenet-200.zip and set dataset.root to its folder."

    def __init__(self, root: str | None, cache: str | None = None) -> None:
        super().__init__(root, channels=3, size=64, cache=cache)
        if (self.root / "tiny-imagenet-200").is_dir():
            self.root = self.root / "tiny-imagenet-200"

    def list_test(self, folder: Path, classes: tuple[str, ...]) -> Samples:
        """List the validation images from class folders if a user has sorted them, else from the official list."""
        if not (folder / "images").is_dir():
            return super().list_test(folder, classes)
        annotations = folder / "val_annotations.txt"
        if not annotations.is_file():
            raise UserError(f"{annotations} is missing; {self.layout}")
        rows = [(*line.split("\t"), "")[:2] for line in annotations.read_text().splitlines() if line.strip()]
        if not all(wnid for _, wnid in rows):
            raise UserError(f"{annotations} has a line without a class; {self.layout}")
        require_classes(folder, [wnid for _, wnid in rows], classes)
        samples = [(str(folder / "images" / Path(name).name), classes.index(wnid)) for name, wnid in rows]
        return sorted(samples, key=itemgetter(1))

    def names(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        """Take the first English name of each class where ``words.txt`` gives it."""
        file = self.root / "words.txt"
        lines = file.read_text().splitlines() if file.is_file() else []
        words = dict(line.split("\t", 1) for line in lines if "\t" in line)
        return tuple(words.get(wnid, wnid).split(",")[0].strip() for wnid in classes)
