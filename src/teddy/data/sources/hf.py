"""Image classification sets of the Hugging Face Hub, or a folder of their parquet files."""

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

TEST_SPLITS = ("test", "validation", "valid", "val")
IN_MEMORY_BYTES = 300_000_000
"""Sets up to this many bytes of pixels are decoded once; larger ones in each epoch."""


class TableImages(DecodedImages):
    """A split with an image column that holds encoded bytes or a path (``datasets.Image(decode=False)``).

    Args:
        folder: of the dataset; a path that leads out of it is refused, since a table from elsewhere could name any file.
    """

    def __init__(
        self,
        table: Any,
        column: str,
        labels: torch.Tensor,
        channels: int,
        size: int,
        resize: int | None,
        folder: Path,
    ) -> None:
        super().__init__(labels, channels, size, resize)
        self.table, self.column, self.folder = table.select_columns([column]), column, folder

    def open(self, index: int) -> Image.Image:
        return next(self.open_all([index]))

    def open_all(self, indices: Sequence[int]) -> Iterator[Image.Image]:
        cells = self.table[list(indices)][self.column]  # one query for all rows is much faster than one for each
        for index, cell in zip(indices, cells, strict=True):
            with self._opened(index, cell) as image:
                decoded = to_mode(image, self.channels)
            yield decoded

    def header(self, index: int) -> tuple[str, tuple[int, int]]:
        """Read Pillow's mode of an image, and its width and height; nothing is decoded."""
        with self._opened(index, self.table[index][self.column]) as image:
            return image.mode, image.size

    def _opened(self, index: int, cell: dict[str, Any] | None) -> AbstractContextManager[Image.Image]:
        name, cell = f"row {index} of the column {self.column}", cell or {}
        if cell.get("bytes") is not None:
            return open_image(io.BytesIO(cell["bytes"]), name)
        if not cell.get("path"):
            raise UserError(f"{name} holds no image; remove the row.")
        path = (self.folder / cell["path"]).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise UserError(
                f"{name} names the file {path}, which is not in {self.folder}; put it there or remove the row."
            )
        return open_image(path, f"{name}, {path},")


@dataclass
class HuggingFace:
    """A dataset of the Hub (``name``) or a folder of files ``<split>-*.parquet``, read with ``datasets``.

    Attributes:
        root: the folder; takes precedence over the Hub.
        name: OWNER/NAME of a dataset of the Hub, ``config`` its variant and ``revision`` its version.
        image_column, label_column: needed only if several columns fit.
        channels, size, resize: the geometry; ``None`` reads it from the first image.
        cache: folder for decoded pixels; without it small sets are decoded in each run.
    """

    root: str | None = None
    name: str | None = None
    config: str | None = None
    revision: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    channels: int | None = None
    size: int | None = None
    resize: int | None = None
    cache: str | None = None

    def __post_init__(self) -> None:
        if self.root is None and self.name is None:
            raise UserError(
                "dataset.source.name and dataset.root are both null; give a dataset of the Hub (OWNER/NAME) or a "
                "folder of parquet files called train-*.parquet and test-*.parquet."
            )

    def check(self) -> None:
        if self.root is not None:  # the Hub is not asked
            self._parquet(self.root)

    def fingerprint(self) -> str:
        """Hash the files' names and sizes, or the Hub's revision; and the chosen columns."""
        columns = [self.image_column, self.label_column]
        if self.root is not None:
            paths = [path for split in self._parquet(self.root).values() for path in split]
            files = sorted((path.name, path.stat().st_size) for path in paths)
            return fingerprint({"source": "parquet", "files": files, "columns": columns})
        try:
            builder = datasets_library().load_dataset_builder(self.name, self.config, revision=self.revision)
        except Exception as error:  # the library raises its own kinds, and those of its HTTP client
            raise self._unreadable(error) from error
        return fingerprint({"source": "hub", "name": self.name, "version": builder.hash, "columns": columns})

    def load(self) -> Loaded:
        """Open the tables; small sets of images of one size are decoded into memory."""
        library, tables = datasets_library(), self._tables()
        features = tables["train"].features
        images = [name for name, feature in features.items() if isinstance(feature, library.Image)]
        classes = [name for name, feature in features.items() if isinstance(feature, library.ClassLabel)]
        integers = [name for name, feature in features.items() if "int" in str(getattr(feature, "dtype", ""))]
        image = self._column("image_column", images, features)
        label = self._column("label_column", classes or integers, features)
        if label not in (*classes, *integers):
            raise UserError(f"dataset.source.label_column={label} holds no whole numbers; name a column that does.")
        used = [split for split in ("train", *TEST_SPLITS) if split in tables]
        labels = {split: self._labels(tables[split], split, label) for split in used}
        names = self._names(labels, label, getattr(features[label], "names", None))
        test = self._test_split(labels)
        if int(labels[test].max()) >= len(names):
            raise UserError(
                f"the split {test} has the label {int(labels[test].max())}, and the training images have the classes 0 to "
                f"{len(names) - 1}; correct the column {label}."
            )

        def encoded(split: str, channels: int, size: int) -> TableImages:
            try:
                table = tables[split].cast_column(image, library.Image(decode=False))
            except Exception as error:  # Arrow's and the library's own kinds
                raise UserError(
                    f"dataset.source.image_column={image} holds no images; name a column that does."
                ) from error
            folder = library.config.HF_CACHE_HOME if self.root is None else self.root
            return TableImages(table, image, labels[split], channels, size, self.resize, Path(folder).expanduser())

        mode, (width, height) = encoded("train", 3, 1).header(0)
        if self.size is None and width != height:
            raise UserError("the images are not square; set dataset.size to the pixels you want.")
        channels, size = self.channels or (1 if mode in GREY_MODES else 3), self.size or width
        splits = encoded("train", channels, size), encoded(test, channels, size)
        return Loaded(*self._decoded(*splits), names, numbered_ids(names), channels, size)

    def _decoded(self, train: TableImages, test: TableImages) -> tuple[ImageSet, ImageSet]:
        """Decode the splits if they are small; larger images stay encoded, for random crops of the whole image."""
        channels, size = train.channels, train.size
        small = (len(train) + len(test)) * channels * size * size <= IN_MEMORY_BYTES
        sample = range(0, len(train), max(1, len(train) // 100))
        if not small or self.resize or any(train.header(index)[1] != (size, size) for index in sample):
            return train, test
        if self.cache is None:
            return decode(train), decode(test)
        key = fingerprint({"data": self.fingerprint(), "channels": channels, "size": size})
        return decode_once(train, test, Path(self.cache).expanduser(), key)

    def _parquet(self, root: str) -> dict[str, list[Path]]:
        folder = Path(root).expanduser()
        found = {split: sorted(folder.glob(f"{split}-*.parquet")) for split in ("train", *TEST_SPLITS)}
        found = {split: paths for split, paths in found.items() if paths}
        if "train" not in found or len(found) < 2:
            raise UserError(
                f"dataset.root={folder} does not hold files called train-*.parquet and test-*.parquet (or validation-*); put "
                "them there or set dataset.root to null and dataset.source.name to a dataset of the Hub."
            )
        return found

    def _tables(self) -> dict[str, Any]:
        options: dict[str, Any] = {"path": self.name, "name": self.config, "revision": self.revision}
        if self.root is not None:
            files = {split: [str(path) for path in paths] for split, paths in self._parquet(self.root).items()}
            cache = None if self.cache is None else str(Path(self.cache).expanduser() / "tables")
            options = {"path": "parquet", "data_files": files, "cache_dir": cache}
        try:
            tables: dict[str, Any] = datasets_library().load_dataset(**options)
        except Exception as error:  # Arrow's and the library's own kinds, and those of its HTTP client
            raise self._unreadable(error) from error
        if "train" not in tables:
            raise UserError(
                f"{self.name} has no split called train (only {', '.join(tables)}); choose another dataset."
            )
        return tables

    def _unreadable(self, error: Exception) -> UserError:
        reason = " ".join(str(error).split())
        if self.root is not None:
            return UserError(f"the parquet files in {self.root} cannot be read ({reason}); fetch them again.")
        return UserError(
            f"dataset.source.name={self.name} cannot be fetched from the Hub ({reason}); check the name and the "
            "network, or set dataset.root to a folder of its parquet files."
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
        several = f"several columns that fit ({', '.join(fitting)})"
        state = several if fitting else f"no column that fits among {columns}"
        raise UserError(f"the data have {state}; set dataset.source.{option} to the right one.")

    def _labels(self, table: Any, split: str, column: str) -> torch.Tensor:
        if column not in table.features:
            raise UserError(f"the split {split} has no column {column}, as the training images have; add it.")
        values = table[column][:]
        if None in values:
            raise UserError(f"row {values.index(None)} of the split {split} has no label; fill the column {column}.")
        return torch.tensor(values, dtype=torch.int64)

    def _names(self, labels: dict[str, torch.Tensor], column: str, names: Sequence[str] | None) -> tuple[str, ...]:
        """Name the classes, each of which has training images."""
        found = labels["train"].unique().tolist()
        count = len(found) if names is None else len(names)
        odd = sorted(set(found) ^ set(range(count)))
        if odd or count < 2:
            state = f"{odd[0]} is missing or one too many" if odd else f"there is {count}"
            raise UserError(
                f"the labels of the training images (column {column}) must be 0, 1, … without a gap, one for each class and two "
                f"or more, but {state}; correct them."
            )
        return tuple(map(str, names or range(count)))

    def _test_split(self, labels: dict[str, torch.Tensor]) -> str:
        for split in TEST_SPLITS:
            if split in labels and len(labels[split]) and labels[split].min() >= 0:  # -1 stands for a secret label
                return split
        raise UserError(
            f"{self.root or self.name} has no labelled split called {', '.join(TEST_SPLITS)} (only {', '.join(labels)}); "
            "choose a dataset that has one."
        )


def datasets_library() -> ModuleType:
    """Import ``datasets``; raise UserError if it is not installed."""
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            "this dataset is read with the package datasets; run pip install 'teddy-distill[hf]'."
        ) from error
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()  # they would fill a log file
    return datasets
