"""Folders of image files, one folder per class: a user's own images, and ImageNet."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import torch

from teddy.artifacts.fingerprint import fingerprint
from teddy.config.errors import UserError
from teddy.data.images import GREY_MODES, FileImages, open_image
from teddy.data.sources.base import Loaded

Samples = list[tuple[str, int]]
"""Image files with their class indices, as torchvision lists them."""


IMAGES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Ends of the names of image files, those of torchvision."""


def list_images(folder: Path, classes: Sequence[str]) -> Samples:
    """List the image files below each class folder, sorted by class and path; what is hidden is ignored.

    Raises:
        UserError: a class has no image, or a link leads back to a folder that it lies in.
        OSError: a folder cannot be read.
    """
    samples: Samples = []
    for index, name in enumerate(classes):
        found = sorted(_walk(folder / name))
        images = [
            os.path.join(place, file) for place, files in found for file in files if file.lower().endswith(IMAGES)
        ]
        if not images:
            raise UserError(f"{folder / name} holds no image; add some or remove the folder of that class.")
        samples += [(path, index) for path in images]
    return samples


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield every folder with the names of its files, sorted."""

    def fail(error: OSError) -> None:
        raise error

    for place, inner, files in os.walk(folder, onerror=fail, followlinks=True):
        inner[:] = [name for name in inner if not name.startswith(".")]
        for path in (os.path.join(place, name) for name in inner):
            if os.path.islink(path) and Path(place).resolve().is_relative_to(Path(path).resolve()):
                raise UserError(f"{path} is a link to a folder that it lies in; remove it.")
        yield place, sorted(name for name in files if not name.startswith("."))


def class_folders(folder: Path) -> tuple[str, ...]:
    """List the class folders in a folder by name, sorted; hidden ones are ignored."""
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))


def require_classes(folder: Path, found: Iterable[str], classes: Sequence[str]) -> None:
    """Raise UserError if the classes found in a folder are not those of the training images."""
    odd = sorted(set(found) ^ set(classes))
    if odd:
        raise UserError(
            f"{folder} and the training images do not both have the class {', '.join(odd[:5])}; add or remove it."
        )


class ImageFolder:
    """``root/train/<class>/*`` and ``root/test/<class>/*`` (or ``root/val``); the classes are numbered by name.

    Channels and size that are None are read from one image of each class.
    """

    kind = "imagefolder"
    test_folders: tuple[str, ...] = ("test", "val")
    layout = "put the images as train/<class>/*.png, and some of each class as test/<class>/*.png, below it."

    def __init__(
        self, root: str | None, channels: int | None = None, size: int | None = None, resize: int | None = None
    ) -> None:
        if root is None:
            raise UserError(f"dataset.root is not set; give a folder and {self.layout}")
        self.root = Path(root).expanduser()
        self.channels, self.size, self.resize = channels, size, resize

    def check(self) -> None:
        with self._readable():
            self._folder("train")
            self._folder(*self.test_folders)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"{error.filename} cannot be read ({error.strerror}); {self.layout}") from error

    def _folder(self, *names: str) -> Path:
        for name in names:
            if (self.root / name).is_dir():
                return self.root / name
        state = f"has no folder {' or '.join(names)}" if self.root.is_dir() else "does not exist"
        raise UserError(f"dataset.root={self.root} {state}; {self.layout}")

    @cached_property
    def listing(self) -> tuple[tuple[str, ...], Samples, Samples]:
        """The class folders, and the files of the training and of the test split."""
        train, test = self._folder("train"), self._folder(*self.test_folders)
        with self._readable():
            classes = class_folders(train)
            if len(classes) < 2:
                raise UserError(f"{train} holds {len(classes)} class folders but needs two or more; {self.layout}")
            return classes, list_images(train, classes), self.list_test(test, classes)

    def list_test(self, folder: Path, classes: tuple[str, ...]) -> Samples:
        """List the files of the test split; raise UserError if it has other classes than the training split."""
        require_classes(folder, class_folders(folder), classes)
        return list_images(folder, classes)

    def fingerprint(self) -> str:
        """Hash the relative names and sizes of all files."""
        _, train, test = self.listing
        files = []
        with self._readable():
            for path in sorted(Path(path) for path, _ in (*train, *test)):
                found = path.stat()
                if not stat.S_ISREG(found.st_mode):  # to read a pipe would take for ever
                    raise UserError(f"{path} is no ordinary file; remove it.")
                files.append((path.relative_to(self.root).as_posix(), found.st_size))
        return fingerprint({"source": self.kind, "files": files})

    def load(self) -> Loaded:
        """List the files; images are decoded when they are used."""
        classes, train, test = self.listing
        geometry = self._geometry(train)

        def images(samples: Samples) -> FileImages:
            paths, indices = zip(*samples, strict=True)
            return FileImages(paths, torch.tensor(indices), *geometry, self.resize)

        return Loaded(images(train), images(test), self.names(classes), classes, *geometry)

    def names(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        """Name the classes readably, given their folders' names."""
        return classes

    def _geometry(self, train: Samples) -> tuple[int, int]:
        if self.channels is not None and self.size is not None:
            return self.channels, self.size
        modes, sizes = set(), set()
        for path in {index: path for path, index in reversed(train)}.values():  # the first image of each class
            with open_image(path, path) as image:
                modes.add(image.mode)
                sizes.add(image.size)
        width, height = sizes.pop()
        if self.size is None and (sizes or width != height):
            raise UserError(
                f"the images in {self.root} are not squares of one size; set dataset.size to the pixels you want."
            )
        return self.channels or (1 if modes <= GREY_MODES else 3), self.size or width


class ImageNet(ImageFolder):
    """ImageNet-1K (ILSVRC 2012), its images sorted into one folder per WordNet id."""

    kind = "imagenet"
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
