"""Image files in folders by class: their list, and a share of them set aside for the test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path

from teddy.config.errors import UserError
from teddy.runtime.seeding import stable_seed

Samples = list[tuple[str, int]]  # image files with their class indices, as torchvision lists them
IMAGES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's


@contextmanager
def readable() -> Iterator[None]:
    """Turn an error of the file system into a UserError that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}); make it readable.") from error


@readable()
def list_images(folder: Path, classes: Sequence[str]) -> Samples:
    """List the image files below each class folder, sorted by class and path; what is hidden is ignored.

    UserError if a class has no image, a folder cannot be read, or a link leads back to a folder that it lies in.
    """
    samples: Samples = []
    for index, name in enumerate(classes):
        found = sorted(_walk(folder / name))
        if not found:
            raise UserError(f"{folder / name} holds no image; add some or remove the folder of that class.")
        samples += [(os.path.join(place, file), index) for place, file in found]
    return samples


def _walk(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the folder and the name of every image file."""

    def fail(error: OSError) -> None:
        raise error

    for place, inner, files in os.walk(folder, onerror=fail, followlinks=True):
        inner[:] = [name for name in inner if not name.startswith(".")]
        for path in (os.path.join(place, name) for name in inner):
            if os.path.islink(path) and Path(place).resolve().is_relative_to(Path(path).resolve()):
                raise UserError(f"{path} is a link to a folder that it lies in; remove it.")
        yield from ((place, name) for name in files if name.lower().endswith(IMAGES) and not name.startswith("."))


@readable()
def class_folders(folder: Path) -> tuple[str, ...]:
    """List the class folders in a folder by name, sorted; hidden ones are ignored."""
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))


def require_classes(folder: Path, found: Iterable[str], classes: Sequence[str]) -> None:
    """Raise UserError if the classes found in a folder are not those of the training images."""
    odd = sorted(set(found) ^ set(classes))
    if odd:
        names = ", ".join(odd[:5])
        raise UserError(f"{folder} and the training images do not both have the class {names}; add or remove it.")


def draw_test(images: Samples, root: Path, share: float, seed: int) -> tuple[Samples, Samples]:
    """Split images, sorted by class, into those to train on and a share of each class for the test, at least one and never all.

    A random order of the names below ``root`` decides: the split is the same wherever the folder lies, and an image more or less
    moves few others. UserError if a class has a single image.
    """
    test: set[str] = set()
    for _, some in itertools.groupby(images, key=itemgetter(1)):
        names = {Path(path).relative_to(root).as_posix(): path for path, _ in some}
        if len(names) < 2:
            raise UserError(
                f"{next(iter(names.values()))} is the only image of its class, and dataset.test_fraction needs one for the test "
                "and one to train on; add some or remove that class."
            )
        order = sorted(names, key=lambda name: stable_seed(seed, "test image", name))
        count = min(max(1, round(share * len(order))), len(order) - 1)
        test |= {names[name] for name in order[:count]}
    return [one for one in images if one[0] not in test], [one for one in images if one[0] in test]
