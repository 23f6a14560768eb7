"""Synthetic sets from elsewhere, in the forms in which people share them: image folders, Hugging Face tables, tensors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from teddy.artifacts.fingerprint import file_digest, fingerprint
from teddy.config.errors import UserError
from teddy.data.images import PIL_MODES, FileImages, open_image
from teddy.data.sources.folders import class_folders, list_images
from teddy.data.sources.hf import TableImages, datasets_library
from teddy.data.spec import DatasetSpec
from teddy.models.weights import load_plain

TENSORS = (".pt", ".pth", ".safetensors")
_FORMS = (
    "a folder for each class, parquet files or a folder of save_to_disk, or a .pt or .safetensors file with a tensor of images "
    "(N, C, H, W) and one of labels"
)
Read = tuple[torch.Tensor, torch.Tensor, list[str]]
"""Images as the dataset's, uint8, class indices, and sentences on what was assumed."""
_SAMPLE = 100  # images whose headers are looked at


@dataclass(frozen=True)
class ForeignSet:
    """Images as the dataset's, uint8 (N, C, H, W), by class, with their class indices, and sentences on what was assumed."""

    images: torch.Tensor
    labels: torch.Tensor
    notes: tuple[str, ...]

    @property
    def counts(self) -> list[int]:
        return torch.bincount(self.labels).tolist()


def files_of(path: Path) -> list[Path]:
    """List the files that a set is read from, sorted; raise UserError if there is none in a known form."""
    if path.is_file() and path.suffix in TENSORS:
        return [path]
    if not path.is_dir():
        raise UserError(f"{path} is no set of images; give {_FORMS}.")
    for pattern in ("*.parquet", "*.arrow"):
        if found := sorted(path.rglob(pattern)):
            return [file for file in found if "train" in file.relative_to(path).as_posix()] or found
    if classes := class_folders(path):
        try:
            return [Path(file) for file, _ in list_images(path, classes)]
        except OSError as error:
            raise UserError(f"{error.filename} cannot be read ({error.strerror}); make it readable.") from error
    if found := sorted(file for file in path.iterdir() if file.suffix in TENSORS):
        return found
    raise UserError(f"{path} holds no set of images; give {_FORMS}.")


def content_of(path: Path) -> str:
    """Name of a set's files by their bytes, wherever it lies."""
    return fingerprint({file.relative_to(path).as_posix(): file_digest(file) for file in files_of(path)})


def read_foreign(path: Path, spec: DatasetSpec) -> ForeignSet:
    """Read a set, unless it was the last one; raise UserError if it is damaged or does not fit the dataset."""
    return _read(path, spec, content_of(path))


@lru_cache(maxsize=1)
def _read(path: Path, spec: DatasetSpec, content: str) -> ForeignSet:
    files = files_of(path)
    kinds = {".parquet": _from_table, ".arrow": _from_table} | dict.fromkeys(TENSORS, _from_tensors)
    images, labels, notes = kinds.get(files[0].suffix, _from_folders)(path, files, spec)
    missing = set(range(spec.num_classes)) - set(labels.tolist())
    if missing:
        name = spec.class_names[min(missing)]
        raise UserError(f"{path} has no image of {name}; every class of {spec.name} needs one.")
    order = labels.argsort(stable=True)
    return ForeignSet(images[order], labels[order], tuple(notes))


def match_classes(names: Sequence[str], spec: DatasetSpec, where: Path) -> list[int]:
    """Find the class index of each name, of a folder, for people, or a number; raise UserError if it cannot be told."""
    for known in (spec.class_ids, spec.class_names):
        indices = {_plain(name): index for index, name in enumerate(known)}
        found = [indices.get(_plain(name), -1) for name in names]
        if len(indices) == len(known) and min(found) >= 0 and len(set(found)) == len(found):
            return found
    numbers = [re.findall(r"\d+", name) for name in names]
    found = [int(one[0]) if len(one) == 1 else -1 for one in numbers]
    if sorted(found) == list(range(spec.num_classes)):
        return found
    raise UserError(
        f"the {len(names)} classes of {where} ({', '.join(names[:3])}, …) are neither by name nor by number the "
        f"{spec.num_classes} classes of {spec.name}; rename them to {', '.join(spec.class_ids[:3])}, …."
    )


def _plain(name: str) -> str:
    return re.sub(r"\W+|_+", "_", name.casefold()).strip("_")


def _from_folders(path: Path, files: list[Path], spec: DatasetSpec) -> Read:
    names = [file.relative_to(path).parts[0] for file in files]
    distinct = sorted(set(names))
    index = dict(zip(distinct, match_classes(distinct, spec, path), strict=True))
    labels = torch.tensor([index[name] for name in names])
    seen = set()
    for file in files[:: max(1, len(files) // _SAMPLE)]:
        with open_image(file, str(file)) as image:
            seen.add((image.mode, image.size))
    return FileImages(files, labels, spec.channels, spec.size).take(range(len(files))), labels, _changes(seen, spec)


def _from_table(path: Path, files: list[Path], spec: DatasetSpec) -> Read:
    datasets = datasets_library()
    from pyarrow import parquet  # comes with it

    try:
        whole = files[0].suffix == ".parquet"
        parts = [
            datasets.Dataset(parquet.read_table(file)) if whole else datasets.Dataset.from_file(str(file))
            for file in files
        ]
        table = datasets.concatenate_datasets(parts)
    except Exception as error:  # Arrow's and the library's own kinds
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())}); fetch it again.") from error
    features = table.features
    images = [name for name, one in features.items() if isinstance(one, datasets.Image)]
    classes = [name for name, one in features.items() if isinstance(one, datasets.ClassLabel)]
    classes = classes or [name for name, one in features.items() if "int" in str(getattr(one, "dtype", ""))]
    if len(images) != 1 or len(classes) != 1:
        raise UserError(f"{path} has the columns {', '.join(features)}; leave one of images and one of class indices.")
    labels = torch.tensor(table[classes[0]][:])
    names = getattr(features[classes[0]], "names", None)
    if names and len(names) == spec.num_classes and not all(name.isdigit() for name in names):
        labels = torch.tensor(match_classes(names, spec, path))[labels]
    _check_labels(labels, spec, path)
    table = table.cast_column(images[0], datasets.Image(decode=False))
    pictures = TableImages(table, images[0], labels, spec.channels, spec.size, None, path)
    seen = {pictures.header(row) for row in range(0, len(labels), max(1, len(labels) // _SAMPLE))}
    return pictures.take(range(len(labels))), labels, _changes(seen, spec)


def _changes(seen: set[tuple[str, tuple[int, int]]], spec: DatasetSpec) -> list[str]:
    """A sentence on images that are not read as they are."""
    wanted = (PIL_MODES[spec.channels], (spec.size, spec.size))
    odd = sorted(seen - {wanted})
    if not odd:
        return []
    mode, (width, height) = odd[0]
    return [
        f"Images such as one of {width} x {height} pixels, mode {mode}, are read as {spec.size} x {spec.size}, {wanted[0]}."
    ]


def _from_tensors(path: Path, files: list[Path], spec: DatasetSpec) -> Read:
    save = "save images (N, C, H, W) and labels (N,) as plain tensors"
    found = [one for file in files for one in _walk(load_plain(file, "file of tensors", save))]
    images = [one for one in found if one.dim() == 4]
    labels = [one for one in found if images and one.dim() in (1, 2) and len(one) == len(images[0])]
    if len(images) != 1 or len(labels) != 1:
        raise UserError(f"{path} holds {len(images)} tensors of images and {len(labels)} of labels for them; {save}.")
    (pixels,), (targets,), notes = images, labels, []
    wanted = (spec.channels, spec.size, spec.size)
    if tuple(pixels.shape[1:]) != wanted:
        raise UserError(
            f"the images in {path} are {tuple(pixels.shape[1:])}, those of {spec.name} {wanted}; resize them."
        )
    if targets.dim() == 2:
        notes.append("Of the soft labels, the largest of each image is its class.")
        targets = targets.argmax(1)
    if not bool((targets == targets.long()).all()):
        raise UserError(f"the labels in {path} are not whole numbers; {save}.")
    _check_labels(targets, spec, path)
    levels, said = _levels(pixels.detach(), spec, path)
    return levels, targets.long(), notes + said


def _levels(pixels: torch.Tensor, spec: DatasetSpec, path: Path) -> tuple[torch.Tensor, list[str]]:
    """Pixels as uint8, with a sentence on what their numbers are taken for."""
    if pixels.dtype == torch.uint8:
        return pixels, []
    pixels = pixels.float()
    if not bool(pixels.isfinite().all()):
        raise UserError(f"{path} holds pixels that are no finite numbers; leave out what has diverged.")
    low, high = pixels.min().item(), pixels.max().item()
    if low >= 0 and high <= 1:
        return (pixels * 255).round().to(torch.uint8), ["Pixels lie in [0, 1] and are rounded to 8 bits."]
    if low >= 0 and high > 10:  # more than any normalised pixel
        return pixels.round().clamp(0, 255).to(torch.uint8), ["Pixels are taken for levels from 0 to 255."]
    black, white = spec.pixel_bounds()
    outside = ((pixels < black) | (pixels > white)).float().mean().item()
    note = (
        f"Pixels from {low:.2f} to {high:.2f} are taken for normalised by the mean and standard deviation of {spec.name}, and "
        f"rounded to 8 bits; {outside:.1%} are beyond black or white and clipped."
    )
    return spec.denormalise(pixels), [note]


def _walk(content: Any) -> Iterator[torch.Tensor]:
    """Every tensor in nested lists and mappings."""
    if isinstance(content, torch.Tensor):
        yield content
    elif isinstance(content, Mapping | list | tuple):
        for one in content.values() if isinstance(content, Mapping) else content:
            yield from _walk(one)


def _check_labels(labels: torch.Tensor, spec: DatasetSpec, path: Path) -> None:
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= spec.num_classes:
        span = f"{labels.min()} to {labels.max()}" if len(labels) else "none"
        raise UserError(f"the labels of {path} ({span}) are no classes of {spec.name}, which has {spec.num_classes}.")
