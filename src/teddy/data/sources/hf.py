"""Image classification sets of the Hugging Face Hub, or a folder of their shards: parquet files or WebDataset's tar files."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from PIL import Image

from teddy.artifacts.fingerprint import fingerprint
from teddy.config.errors import UserError
from teddy.data.images import GREY_MODES, DecodedImages, ImageSet, open_image, to_mode
from teddy.data.sources.base import Loaded, numbered_ids
from teddy.data.sources.decoded import decode, decode_once

# Names of the files of a split, by the builder of ``datasets`` that reads them.
SHARDS = {"parquet": "{}-*.parquet", "webdataset": "*{}-*.tar"}
TEST_SPLITS = ("test", "validation", "valid", "val")
IN_MEMORY_BYTES = 300_000_000  # of pixels, up to which a set is decoded once, and a larger one in each epoch


class TableImages(DecodedImages):
    """A split of a table whose column ``column`` holds images as encoded bytes or as paths below ``folder``.

    A path that leads out of the folder is refused, since a table from elsewhere could name any file.
    """

    def __init__(
        self, table: Any, column: str, folder: Path, labels: torch.Tensor, channels: int, size: int, resize: int | None
    ) -> None:
        super().__init__(labels, channels, size, resize)
        library = datasets_library()
        try:
            self.table = table.select_columns([column]).cast_column(column, library.Image(decode=False))
        except Exception as error:  # Arrow's and the library's own kinds
            raise UserError(f"dataset.source.image_column={column} holds no images; name another.") from error
        self.column, self.folder = column, folder

    def opened(self, index: int) -> AbstractContextManager[Image.Image]:
        return self._opened(index, self.table[index][self.column])

    def open_all(self, indices: Sequence[int]) -> Iterator[Image.Image]:
        cells = self.table[list(indices)][self.column]  # one query for all rows is much faster than one for each
        for index, cell in zip(indices, cells, strict=True):
            with self._opened(index, cell) as image:
                decoded = to_mode(image, self.channels)
            yield decoded

    def _opened(self, index: int, cell: dict[str, Any] | None) -> AbstractContextManager[Image.Image]:
        name, cell = f"row {index} of the column {self.column}", cell or {}
        if cell.get("bytes") is not None:
            return open_image(io.BytesIO(cell["bytes"]), name)
        if not cell.get("path"):
            raise UserError(f"{name} holds no image; remove the row.")
        path = (self.folder / cell["path"]).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise UserError(f"{name} names the file {path}, which is not in {self.folder}; remove the row.")
        return open_image(path, f"{name}, {path},")


def columns_of(features: Any) -> tuple[list[str], list[str]]:
    """List the columns of images, and those of class indices: the ones with named classes, or else all of whole numbers."""
    library = datasets_library()
    images = [name for name, one in features.items() if isinstance(one, library.Image)]
    classes = [name for name, one in features.items() if isinstance(one, library.ClassLabel)]
    return images, classes or [name for name, one in features.items() if _is_whole(one)]


def _is_whole(feature: Any) -> bool:
    return "int" in str(getattr(feature, "dtype", ""))


@dataclass
class HuggingFace:
    """A dataset of the Hub (``name``) or a folder of shards, read with ``datasets``: ``<split>-*.parquet`` or ``*<split>-*.tar``.

    Of tar files (members ``0001.jpg``, ``0001.cls``, …) the library first makes tables in ``cache``, as large as they are.
    """

    root: str | None = None  # the folder; takes precedence over the Hub
    name: str | None = None  # OWNER/NAME
    config: str | None = None  # variant
    revision: str | None = None  # version
    image_column: str | None = None  # needed only if several columns fit, as label_column
    label_column: str | None = None
    channels: int | None = None  # None: 1 if a hundred images, evenly spaced, are grey, else 3
    size: int | None = None  # None: that of the first image
    resize: int | None = None  # shorter side before a centre crop to `size`
    cache: str | None = None  # folder for decoded pixels; without it small sets are decoded in each run

    def __post_init__(self) -> None:
        if self.root is None and self.name is None:
            raise UserError(
                "dataset.source.name and dataset.root are both null; give a dataset of the Hub (OWNER/NAME) or a "
                "folder of shards called train-*.parquet and test-*.parquet, or train-*.tar and test-*.tar."
            )

    def check(self) -> None:
        if self.root is not None:  # the Hub is not asked
            self._shards(self.root)

    def fingerprint(self) -> str:
        """Hash the files' names and sizes, or the Hub's revision; and the chosen columns."""
        columns = [self.image_column, self.label_column]
        if self.root is not None:
            kind, shards = self._shards(self.root)
            files = sorted((path.name, path.stat().st_size) for split in shards.values() for path in split)
            return fingerprint({"source": kind, "files": files, "columns": columns})
        try:
            builder = datasets_library().load_dataset_builder(self.name, self.config, revision=self.revision)
        except Exception as error:  # the library raises its own kinds, and those of its HTTP client
            raise self._unreadable(error) from error
        return fingerprint({"source": "hub", "name": self.name, "version": builder.hash, "columns": columns})

    def load(self) -> Loaded:
        """Open the tables; small sets of images of one size are decoded into memory."""
        tables = self._tables()
        features = tables["train"].features
        pictures, classes = columns_of(features)
        image, label = self._column("image_column", pictures, features), self._column("label_column", classes, features)
        if not _is_whole(features[label]):
            raise UserError(f"dataset.source.label_column={label} holds no whole numbers; name a column that does.")
        splits = [split for split in ("train", *TEST_SPLITS) if split in tables]
        labels = {split: self._labels(tables[split], split, label) for split in splits}
        names = self._names(labels["train"], label, getattr(features[label], "names", None))
        test = self._test_split(labels, len(names))
        folder = Path(self.root or datasets_library().config.HF_CACHE_HOME).expanduser()

        def encoded(split: str, channels: int, size: int) -> TableImages:
            return TableImages(tables[split], image, folder, labels[split], channels, size, self.resize)

        probe = encoded("train", 3, 1)
        _, (width, height) = probe.header(0)
        if self.size is None and width != height:
            raise UserError("the images are not square; set dataset.size to the pixels you want.")
        grey = all(mode in GREY_MODES for mode, _ in probe.headers())
        channels, size = self.channels or (1 if grey else 3), self.size or width
        images = self._decoded(encoded("train", channels, size), encoded(test, channels, size))
        return Loaded(*images, names, numbered_ids(names), channels, size)

    def _decoded(self, train: TableImages, test: TableImages) -> tuple[ImageSet, ImageSet]:
        """Decode the splits if they are small; larger images stay encoded, for random crops of the whole image."""
        channels, size = train.channels, train.size
        small = (len(train) + len(test)) * channels * size * size <= IN_MEMORY_BYTES
        if not small or self.resize or {shape for _, shape in train.headers()} != {(size, size)}:
            return train, test
        if self.cache is None:
            return decode(train), decode(test)
        key = fingerprint({"data": self.fingerprint(), "channels": channels, "size": size})
        return decode_once(train, test, Path(self.cache).expanduser(), key)

    def _shards(self, root: str) -> tuple[str, dict[str, list[Path]]]:
        folder = Path(root).expanduser()
        for kind, pattern in SHARDS.items():
            found = {split: sorted(folder.glob(pattern.format(split))) for split in ("train", *TEST_SPLITS)}
            found = {split: paths for split, paths in found.items() if paths}
            if "train" in found and len(found) > 1:
                return kind, found
        raise UserError(
            f"dataset.root={folder} does not hold files called train-*.parquet and test-*.parquet (or validation-*, or .tar); "
            "put them there or set dataset.root to null and dataset.source.name to a dataset of the Hub."
        )

    def _tables(self) -> dict[str, Any]:
        options: dict[str, Any] = {"path": self.name, "name": self.config, "revision": self.revision}
        if self.root is not None:
            kind, shards = self._shards(self.root)
            files = {split: list(map(str, paths)) for split, paths in shards.items()}
            cache = None if self.cache is None else str(Path(self.cache).expanduser() / "tables")
            options = {"path": kind, "data_files": files, "cache_dir": cache}
        try:
            tables: dict[str, Any] = datasets_library().load_dataset(**options)
        except Exception as error:  # Arrow's and the library's own kinds, and those of its HTTP client
            raise self._unreadable(error) from error
        if "train" not in tables:
            raise UserError(f"{self.name} has only the splits {', '.join(tables)}; choose a dataset that has train.")
        return tables

    def _unreadable(self, error: Exception) -> UserError:
        reason = " ".join(str(error).split())
        if self.root is not None:
            return UserError(f"the shards in {self.root} cannot be read ({reason}); fetch them again.")
        return UserError(
            f"dataset.source.name={self.name} cannot be fetched from the Hub ({reason}); check the name and the "
            "network, or set dataset.root to a folder of its shards."
        )

    def _column(self, option: str, fitting: list[str], features: Any) -> str:
        """Choose the column that an option names, or the only one that fits."""
        wanted, columns = getattr(self, option), ", ".join(features)
        if wanted in features:
            return str(wanted)
        if wanted is not None:
            raise UserError(f"dataset.source.{option}={wanted} is no column of the data, which have {columns}.")
        if len(fitting) == 1:
            return fitting[0]
        several, none = f"several columns that fit ({', '.join(fitting)})", f"no column that fits among {columns}"
        raise UserError(f"the data have {several if fitting else none}; set dataset.source.{option} to the right one.")

    def _labels(self, table: Any, split: str, column: str) -> torch.Tensor:
        if column not in table.features:
            raise UserError(f"the split {split} has no column {column}, as the training images have; add it.")
        values = table[column][:]
        if None in values:
            raise UserError(f"row {values.index(None)} of the split {split} has no label; fill the column {column}.")
        return torch.tensor(values, dtype=torch.int64)

    def _names(self, labels: torch.Tensor, column: str, names: Sequence[str] | None) -> tuple[str, ...]:
        """Name the classes, each of which has training images with its label."""
        found = labels.unique().tolist()
        count = len(found) if names is None else len(names)
        odd = sorted(set(found) ^ set(range(count)))
        if odd or count < 2:
            state = f"{odd[0]} is missing or one too many" if odd else f"there is {count}"
            raise UserError(
                f"the labels of the training images (column {column}) must be 0, 1, … without a gap, one for each class and two "
                f"or more, but {state}; correct them."
            )
        return tuple(map(str, names or range(count)))

    def _test_split(self, labels: dict[str, torch.Tensor], classes: int) -> str:
        """Choose the first split of test images with labels, which are those of the training images."""
        known = [split for split in TEST_SPLITS if split in labels and len(labels[split])]
        known = [split for split in known if labels[split].min() >= 0]  # -1 stands for a secret label
        if not known:
            tests, there = ", ".join(TEST_SPLITS), ", ".join(labels)
            raise UserError(f"the data have no labelled split called {tests} (only {there}); choose others.")
        if (largest := int(labels[known[0]].max())) >= classes:
            train = f"the training images have the classes 0 to {classes - 1}"
            raise UserError(f"the split {known[0]} has the label {largest}, and {train}; correct its labels.")
        return known[0]


def datasets_library() -> ModuleType:
    """Import ``datasets``; raise UserError if it is not installed."""
    try:
        import datasets
    except ImportError as error:
        raise UserError("the package datasets is missing; run pip install 'teddy-distill[hf]'.") from error
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()  # they would fill a log file
    return datasets
