"""Folders of image files, one folder per class: a person's own images, and ImageNet."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from teddy.artifacts.fingerprint import fingerprint
from teddy.config.errors import BadInput
from teddy.data.sources.base import Loaded

if TYPE_CHECKING:
    from teddy.data.images import FileImages

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
ClassFiles = Mapping[str, Sequence[Path]]


def image_files(folder: Path) -> list[Path]:
    """The image files that lie directly in a folder, by name."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".")]
    return [folder / name for name in sorted(names) if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES]


def class_files(folder: Path, inner: str = "") -> dict[str, list[Path]]:
    """The image files of each class folder in ``folder`` (or of its subfolder ``inner``), classes by name.

    Raises:
        BadInput: a class has no image.
    """
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {}
    for path in classes:
        place = path / inner if inner and (path / inner).is_dir() else path
        found[path.name] = image_files(place)
        if not found[path.name]:
            raise BadInput(f"{place} holds no image; add some or remove the folder of that class.")
    return found


def listing_fingerprint(kind: str, root: Path, splits: Sequence[ClassFiles]) -> str:
    """The identity of a set of many files: their relative names and sizes."""
    paths = sorted(path for split in splits for files in split.values() for path in files)
    return fingerprint({"source": kind, "files": [(p.relative_to(root).as_posix(), p.stat().st_size) for p in paths]})


def file_images(
    split: ClassFiles, classes: Sequence[str], channels: int, size: int, resize: int | None = None
) -> FileImages:
    """The files of a split as an image set, in the order (class, name)."""
    import torch

    from teddy.data.images import FileImages

    paths = [path for name in classes for path in split[name]]
    labels = [index for index, name in enumerate(classes) for _ in split[name]]
    return FileImages(paths, torch.tensor(labels), channels, size, resize)


class ImageFolder:
    """``root/train/<class>/*`` and ``root/test/<class>/*`` (or ``root/val``); the classes are numbered by
    name.
    """

    kind = "imagefolder"
    test_folders: tuple[str, ...] = ("test", "val")
    layout = "put the images as train/<class>/*.png and test/<class>/*.png below it."

    def __init__(
        self,
        root: str | None,
        channels: int | None = None,
        size: int | None = None,
        resize: int | None = None,
    ) -> None:
        """Takes the folder and the geometry; ``None`` reads channels and size from one image of each class.

        Raises:
            BadInput: no folder is given.
        """
        if root is None:
            raise BadInput(f"dataset.root is not set; give a folder and {self.layout}")
        self.root = Path(root).expanduser()
        self.channels, self.size, self.resize = channels, size, resize

    def check(self) -> None:
        """Raises BadInput if a folder is missing."""
        self._folders()

    def _folders(self) -> tuple[Path, Path]:
        """The folders of the training and of the test split."""
        train_folder = self.root / "train"
        if not train_folder.is_dir():
            state = "has no folder train" if self.root.is_dir() else "does not exist"
            raise BadInput(f"dataset.root={self.root} {state}; {self.layout}")
        test_folder = next((self.root / name for name in self.test_folders if (self.root / name).is_dir()), None)
        if test_folder is None:
            raise BadInput(
                f"{self.root} has no folder {' or '.join(self.test_folders)}; move some images of each "
                "class from train to "
                f"{self.root / self.test_folders[0]}/<class>."
            )
        return train_folder, test_folder

    @cached_property
    def splits(self) -> tuple[ClassFiles, ClassFiles]:
        """The files of the training and of the test split, by class.

        Raises:
            BadInput: a folder or a class is missing or empty, or the two splits have different classes.
        """
        train_folder, test_folder = self._folders()
        train, test = class_files(train_folder), class_files(test_folder)
        if len(train) < 2:
            raise BadInput(f"{train_folder} holds {len(train)} class folders but needs two or more; {self.layout}")
        for folder, one, other in ((test_folder, train, test), (train_folder, test, train)):
            missing = sorted(set(one) - set(other))
            if missing:
                raise BadInput(
                    f"{folder} has no folder for the class {', '.join(missing[:5])}; train and test need the same."
                )
        return train, test

    def fingerprint(self) -> str:
        """From the relative names and sizes of all files."""
        return listing_fingerprint(self.kind, self.root, self.splits)

    def load(self) -> Loaded:
        """Lists the files; images are decoded when asked for.

        Raises:
            BadInput: see ``splits``; or the size is open and the images differ.
        """
        train, test = self.splits
        classes = tuple(train)
        channels, size = self._geometry(train)
        return Loaded(
            train=file_images(train, classes, channels, size, self.resize),
            test=file_images(test, classes, channels, size, self.resize),
            class_names=self.names(classes),
            class_ids=classes,
            channels=channels,
            size=size,
        )

    def names(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        """What people call the classes, given their folders' names."""
        return classes

    def _geometry(self, train: ClassFiles) -> tuple[int, int]:
        if self.channels is not None and self.size is not None:
            return self.channels, self.size
        from teddy.data.images import read_image

        samples = [read_image(files[0]) for files in train.values()]
        channels = self.channels or (1 if all(image.mode in ("L", "1", "I;16") for image in samples) else 3)
        sizes = {image.size for image in samples}
        if self.size is None and (len(sizes) > 1 or len(set(next(iter(sizes)))) > 1):
            raise BadInput(
                f"the images in {self.root} are not squares of one size; set dataset.size to the pixels you want."
            )
        return channels, self.size or next(iter(sizes))[0]


class ImageNet(ImageFolder):
    """ImageNet-1K (ILSVRC 2012), its images sorted into one folder per WordNet id."""

    kind = "imagenet"
    test_folders = ("val",)
    layout = (
        "unpack the ILSVRC-2012 archives of https://image-net.org/download-images as train/n01440764/*.JPEG "
        "and "
        "val/n01440764/*.JPEG (the validation images sorted into the same 1,000 folders) below it."
    )

    def __init__(self, root: str | None, size: int = 224, resize: int | None = 256) -> None:
        """Takes the folder and the evaluation geometry."""
        super().__init__(root, channels=3, size=size, resize=resize)

    def names(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        """English names for the 1,000 classes; a subset keeps its WordNet ids."""
        from torchvision.models import ResNet18_Weights

        known = tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
        return known if len(classes) == len(known) else classes
