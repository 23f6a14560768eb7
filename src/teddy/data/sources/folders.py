"""Folders of image files, one folder per class: a user's own images, and ImageNet."""

from __future__ import annotations

import os
import stat
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from teddy.artifacts.fingerprint import fingerprint
from teddy.config.errors import UserError
from teddy.data.images import FITS, GREY_MODES, FileImages, Header, ImageSet
from teddy.data.sources.base import Loaded
from teddy.data.sources.decoded import decode_once
from teddy.data.sources.listing import Samples, class_folders, draw_test, list_images, readable, require_classes
from teddy.runtime.memory import machine_memory


class ImageFolder:
    """Folders by class in one of two layouts; the classes are numbered by name.

    Sorted by the user: ``root/train/<class>/*`` and ``root/test/<class>/*`` (or ``root/val``). Flat: ``root/<class>/*``, of which
    a share of each class is set aside for the test.
    """

    kind = "imagefolder"
    public = False  # whether it is a published dataset, whose layout and geometry are known
    test_folders: tuple[str, ...] = ("test", "val")
    layout = "put the images as train/<class>/*.png, and some of each class as test/<class>/*.png, below it."

    def __init__(
        self,
        root: str | None,
        channels: int | None = None,  # None: read from one image of each class, like the size
        size: int | None = None,
        resize: int | None = None,  # see DecodedImages, like fit
        fit: str = "crop",
        test_fraction: float | None = None,  # share of each class, for the flat layout; None: the other one
        seed: int = 0,  # of the choice of test images, which their names in root decide too
        cache: str | None = None,  # folder for decoded images; without it files are decoded in each epoch
    ) -> None:
        if root is None:
            raise UserError(f"dataset.root is not set; give a folder and {self.layout}")
        if fit not in FITS:
            raise UserError(f"dataset.source.fit={fit} is not known; choose one of {', '.join(FITS)}.")
        self.root = Path(root).expanduser()
        self.channels, self.size, self.resize, self.fit = channels, size, resize, fit
        self.test_fraction, self.seed = test_fraction, seed
        self.cache = None if cache is None else Path(cache).expanduser()

    def check(self) -> None:
        if self.test_fraction is None or not self.root.is_dir():
            self._folder("train")
            self._folder(*self.test_folders)
            return
        found = set(class_folders(self.root))
        if "train" in found and found <= {"train", *self.test_folders}:
            raise UserError(
                f"dataset.test_fraction={self.test_fraction} is for a folder that holds the classes themselves, and {self.root} "
                f"holds {' and '.join(sorted(found))}; set it to null, or name the folder of the classes, {self.root / 'train'}."
            )

    def _folder(self, *names: str) -> Path:
        for name in names:
            if (self.root / name).is_dir():
                return self.root / name
        if not self.root.is_dir():
            raise UserError(f"dataset.root={self.root} does not exist; {self.layout}")
        hint = "" if self.public else " If it holds the classes themselves, set dataset.test_fraction=0.2."
        raise UserError(f"dataset.root={self.root} has no folder {' or '.join(names)}; {self.layout}{hint}")

    @cached_property
    def listing(self) -> tuple[tuple[str, ...], Samples, Samples]:
        """The class folders, and the files of the training and of the test split."""
        train = self._folder("train") if self.test_fraction is None else self.root
        classes = class_folders(train)
        if len(classes) < 2:
            raise UserError(f"{train} holds {len(classes)} class folders but needs two or more; {self.layout}")
        images = list_images(train, classes)
        if self.test_fraction is not None:
            return classes, *draw_test(images, self.root, self.test_fraction, self.seed)
        return classes, images, self.list_test(self._folder(*self.test_folders), classes)

    def list_test(self, folder: Path, classes: tuple[str, ...]) -> Samples:
        """List the files of the test split; raise UserError if it has other classes than the training split."""
        require_classes(folder, class_folders(folder), classes)
        return list_images(folder, classes)

    @readable()
    def fingerprint(self) -> str:
        """Hash the relative names and sizes of all files, and what else decides on pixels or split."""
        _, train, test = self.listing
        files = []
        for path in sorted(Path(path) for path, _ in (*train, *test)):
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):  # to read a pipe would take for ever
                raise UserError(f"{path} is no ordinary file; remove it.")
            files.append((path.relative_to(self.root).as_posix(), found.st_size))
        content: dict[str, Any] = {"source": self.kind, "files": files}
        if self.test_fraction is not None:
            content |= {"test_fraction": float(self.test_fraction), "seed": self.seed}
        if self.fit != "crop":
            content["fit"] = self.fit
        if self.cache is not None and not self.public:  # whose images may have had any size
            content["decoded"] = True
        return fingerprint(content)

    def load(self) -> Loaded:
        """List the files; images are decoded when they are used, or once if there is a folder for the result."""
        classes, train, test = self.listing
        channels, size = self.geometry()

        def images(samples: Samples) -> FileImages:
            paths, indices = zip(*samples, strict=True)
            return FileImages(paths, torch.tensor(indices), channels, size, self.resize, self.fit)

        splits: tuple[ImageSet, ImageSet] = images(train), images(test)
        if self.cache is not None:
            needed, there = (len(train) + len(test)) * channels * size * size, machine_memory()
            if needed > there / 2:
                raise UserError(
                    f"decoded, the images of {self.root} take {needed / 1e9:,.0f} GB, and memory has {there / 1e9:,.0f} GB; "
                    "lower dataset.size, or set dataset.source.cache=null."
                )
            content = {"data": self.fingerprint(), "channels": channels, "size": size, "resize": self.resize}
            splits = decode_once(*splits, self.cache, fingerprint(content))
        names = {"train": train, "test": test} if self.test_fraction is not None else {}
        drawn = {split: [os.path.relpath(path, self.root) for path, _ in part] for split, part in names.items()}
        return Loaded(*splits, self.names(classes), classes, channels, size, drawn or None, self._remark(size))

    def _remark(self, size: int) -> str:
        odd = [] if self.public else [shape for _, shape in self.headers if shape[0] != shape[1]]
        if not odd:
            return ""
        done = {
            "crop": "the shorter side is scaled to {} and the centre cut (dataset.source.fit=stretch keeps all)",
            "stretch": "both sides are scaled to {} (dataset.source.fit=crop keeps the proportions)",
        }
        return f"Not all images are square ({odd[0][0]} x {odd[0][1]}): {done[self.fit].format(self.resize or size)}."

    def names(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        """Name the classes readably, given their folders' names."""
        return classes

    @cached_property
    def headers(self) -> list[Header]:
        """The headers of the first training image of each class."""
        first = list({index: path for path, index in reversed(self.listing[1])}.values())
        images = FileImages(first, torch.arange(len(first)), 3, 1)  # in any geometry, for none is decoded
        return [images.header(index) for index in range(len(first))]

    def geometry(self) -> tuple[int, int]:
        """The channels and the size of the images; UserError if they are not squares of one size, and none is given."""
        if self.channels is not None and self.size is not None:
            return self.channels, self.size
        modes, sizes = {mode for mode, _ in self.headers}, {shape for _, shape in self.headers}
        width, height = next(iter(sizes))
        if self.size is None and (len(sizes) > 1 or width != height):
            raise UserError(f"the images in {self.root} are not squares of one size; set dataset.size, in pixels.")
        return self.channels or (1 if modes <= GREY_MODES else 3), self.size or width


class ImageNet(ImageFolder):
    """ImageNet-1K (ILSVRC 2012), its images sorted into one folder per WordNet id."""

    kind = "imagenet"
    public = True
    test_folders = ("val",)
    layout = (
        "unpack the ILSVRC-2012 archives of https://image-net.org/download-images as train/n01440764/*.JPEG and "
        "val/n01440764/*.JPEG (the validation images sorted into the same 1,000 folders) below it."
    )

    def __init__(self, root: str | None, size: int = 224, resize: int | None = 256) -> None:
        super().__init__(root, channels=3, size=size, resize=resize)

    def names(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        """Name the 1,000 classes in English; a subset keeps its WordNet ids."""
        from torchvision.models import ResNet18_Weights

        known = tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
        return known if len(classes) == len(known) else classes
