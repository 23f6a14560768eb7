"""Tiny-ImageNet in the tree that its archive unpacks to."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from teddy.config.errors import BadInput
from teddy.data.sources.base import Loaded
from teddy.data.sources.folders import ClassFiles, class_files, file_images, listing_fingerprint

if TYPE_CHECKING:
    from teddy.data.images import ImageSet

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"


class TinyImageNet:
    """Tiny-ImageNet: 500 + 50 images of 64 x 64 pixels in each of 200 classes; classes are numbered by sorted
    WordNet id.

    Its official test images have no labels, so the official validation images are the test split, as
    everywhere.
    """

    def __init__(self, root: str | None, cache: str | None = None) -> None:
        """Takes the folder, and one for decoded images (1.4 GB); without that the files are decoded in each
        epoch.

        Raises:
            BadInput: no folder is given.
        """
        if root is None:
            raise BadInput(f"dataset.root is not set; unpack {URL} and give the folder.")
        given = Path(root).expanduser()
        inner = given / "tiny-imagenet-200"
        self.root = inner if inner.is_dir() else given
        self.cache = None if cache is None else Path(cache).expanduser()

    def check(self) -> None:
        """Raises BadInput if a part of the tree is missing."""
        for name in ("wnids.txt", "train", "val"):
            if not (self.root / name).exists():
                raise BadInput(f"{self.root} has no {name}; unpack {URL} and set dataset.root to its folder.")

    @cached_property
    def splits(self) -> tuple[ClassFiles, ClassFiles]:
        """The files of the training and of the test split, by WordNet id.

        Raises:
            BadInput: a part of the tree is missing.
        """
        self.check()
        classes = sorted((self.root / "wnids.txt").read_text().split())
        train, test = class_files(self.root / "train", "images"), self._val()
        for split, name in ((train, "train"), (test, "val")):
            if sorted(split) != classes:
                odd = sorted(set(split) ^ set(classes))
                raise BadInput(
                    f"{self.root / name} and wnids.txt disagree about the class {', '.join(odd[:5])}; "
                    f"unpack {URL} again."
                )
        return train, {name: test[name] for name in classes}

    def _val(self) -> dict[str, list[Path]]:
        annotations = self.root / "val" / "val_annotations.txt"
        if not (self.root / "val" / "images").is_dir():  # many people sort the validation images into class folders
            return class_files(self.root / "val", "images")
        if not annotations.is_file():
            raise BadInput(f"{annotations} is missing; unpack {URL} again.")
        found: dict[str, list[Path]] = {}
        for line in annotations.read_text().splitlines():
            if line.strip():
                file, wnid = line.split("\t")[:2]
                found.setdefault(wnid, []).append(self.root / "val" / "images" / file)
        return found

    def fingerprint(self) -> str:
        """From the relative names and sizes of all files.

        Raises:
            BadInput: a listed file is missing.
        """
        try:
            return listing_fingerprint("tiny_imagenet", self.root, self.splits)
        except FileNotFoundError as error:
            raise BadInput(f"{error.filename} is missing; unpack {URL} again.") from error

    def load(self) -> Loaded:
        """Lists the files, and decodes them once if there is a folder to keep the result.

        Raises:
            BadInput: a part of the tree is missing or unreadable.
        """
        classes = tuple(self.splits[0])
        train: ImageSet
        test: ImageSet
        train, test = (file_images(split, classes, channels=3, size=64) for split in self.splits)
        if self.cache is not None:
            from teddy.data.sources.decoded import decode_once

            train, test = decode_once(train, test, self.cache, self.fingerprint())
        return Loaded(train=train, test=test, class_names=self._names(classes), class_ids=classes, channels=3, size=64)

    def _names(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        file = self.root / "words.txt"
        if not file.is_file():
            return classes
        words = dict(line.split("\t", 1) for line in file.read_text().splitlines() if "\t" in line)
        return tuple(words.get(wnid, wnid).split(",")[0].strip() for wnid in classes)
