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
from teddy.data.images import PIL_MODES, DecodedImages, FileImages
from teddy.data.sources.hf import TableImages, columns_of, datasets_library
from teddy.data.sources.listing import class_folders, list_images
from teddy.data.spec import DatasetSpec
from teddy.models.weights import load_plain

TENSORS = (".pt", ".pth", ".safetensors")
_FORMS = (
    "a folder for each class, parquet files or a folder of save_to_disk, or a .pt or .safetensors file with a tensor of images "
    "(N, C, H, W) and one of labels"
)


@dataclass(frozen=True)
class ForeignSet:
    """Images in the size and channels of the dataset, with their class indices."""

    images: torch.Tensor  # uint8 (N, C, H, W)
    labels: torch.Tensor  # int64 (N,)
    notes: tuple[str, ...]  # sentences on what was assumed

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
        return [Path(file) for file, _ in list_images(path, classes)]
    if found := sorted(file for file in path.iterdir() if file.suffix in TENSORS):
        return found
    raise UserError(f"{path} holds no set of images; give {_FORMS}.")


def content_of(path: Path) -> str:
    """Digest of the names and bytes of a set's files, wherever it lies."""
    return fingerprint({file.relative_to(path).as_posix(): file_digest(file) for file in files_of(path)})


def read_foreign(path: Path, spec: DatasetSpec) -> ForeignSet:
    """Read a set by class, unless it was the last one; raise UserError if it is damaged or does not fit the dataset."""
    return _read(path, spec, content_of(path))


@lru_cache(maxsize=1)
def _read(path: Path, spec: DatasetSpec, content: str) -> ForeignSet:
    files = files_of(path)
    kinds = {".parquet": _from_table, ".arrow": _from_table} | dict.fromkeys(TENSORS, _from_tensors)
    found = kinds.get(files[0].suffix, _from_folders)(path, files, spec)
    missing = set(range(spec.num_classes)) - set(found.labels.tolist())
    if missing:
        name = spec.class_names[min(missing)]
        raise UserError(f"{path} has no image of {name}; every class of {spec.name} needs one.")
    order = found.labels.argsort(stable=True)
    return ForeignSet(found.images[order], found.labels[order], found.notes)


def match_classes(names: Sequence[str], spec: DatasetSpec, where: Path) -> list[int]:
    """Find the class index of each name, which is a folder's, a class name or a number; UserError if it cannot be told."""
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


def _from_folders(path: Path, files: list[Path], spec: DatasetSpec) -> ForeignSet:
    names = [file.relative_to(path).parts[0] for file in files]
    distinct = sorted(set(names))
    index = dict(zip(distinct, match_classes(distinct, spec, path), strict=True))
    return _decoded(FileImages(files, torch.tensor([index[name] for name in names]), spec.channels, spec.size))


def _from_table(path: Path, files: list[Path], spec: DatasetSpec) -> ForeignSet:
    datasets = datasets_library()
    from pyarrow import parquet  # comes with it

    try:
        if files[0].suffix == ".parquet":
            parts = [datasets.Dataset(parquet.read_table(file)) for file in files]
        else:
            parts = [datasets.Dataset.from_file(str(file)) for file in files]
        table = datasets.concatenate_datasets(parts)
    except Exception as error:  # Arrow's and the library's own kinds
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())}); fetch it again.") from error
    images, classes = columns_of(table.features)
    if len(images) != 1 or len(classes) != 1:
        columns = ", ".join(table.features)
        raise UserError(f"{path} has the columns {columns}; leave one of images and one of class indices.")
    labels = torch.tensor([-1 if one is None else one for one in table[classes[0]]])
    _check_labels(labels, spec, path)  # -1, which the library writes for no label, would be the last class
    names = getattr(table.features[classes[0]], "names", None)
    if names and len(names) == spec.num_classes and not all(name.isdigit() for name in names):
        labels = torch.tensor(match_classes(names, spec, path))[labels]
    return _decoded(TableImages(table, images[0], path, labels, spec.channels, spec.size, None))


def _decoded(images: DecodedImages) -> ForeignSet:
    """Decode images, and note whether some are resized or converted."""
    size, wanted = images.size, PIL_MODES[images.channels]
    odd = sorted(images.headers() - {(wanted, (size, size))})
    notes = [
        f"Images such as one of {width} x {height} pixels, mode {mode}, are read as {size} x {size}, {wanted}."
        for mode, (width, height) in odd[:1]
    ]
    return ForeignSet(images.take(range(len(images))), images.labels, tuple(notes))


def _from_tensors(path: Path, files: list[Path], spec: DatasetSpec) -> ForeignSet:
    save = "save images (N, C, H, W) and labels (N,) as plain tensors"
    found = [one for file in files for one in _walk(load_plain(file, "file of tensors", save))]
    images = [one for one in found if one.dim() == 4]
    labels = [one for one in found if images and one.dim() in (1, 2) and len(one) == len(images[0])]
    if len(images) != 1 or len(labels) != 1:
        raise UserError(f"{path} holds {len(images)} tensors of images and {len(labels)} of labels for them; {save}.")
    (pixels,), (targets,), notes = images, labels, []
    shape, wanted = tuple(pixels.shape[1:]), (spec.channels, spec.size, spec.size)
    if shape != wanted:
        raise UserError(f"the images in {path} are {shape}, those of {spec.name} {wanted}; resize them.")
    if targets.dim() == 2:
        notes.append("Of the soft labels, the largest of each image is its class.")
        targets = targets.argmax(1)
    if not bool((targets == targets.long()).all()):
        raise UserError(f"the labels in {path} are not whole numbers; {save}.")
    _check_labels(targets, spec, path)
    levels, said = _levels(pixels.detach(), spec, path)
    return ForeignSet(levels, targets.long(), (*notes, *said))


def _levels(pixels: torch.Tensor, spec: DatasetSpec, path: Path) -> tuple[torch.Tensor, list[str]]:
    """Convert pixels to uint8, and note how their values are interpreted."""
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
