"""Image classification sets of the Hugging Face Hub, or a folder of their parquet files."""

from __future__ import annotations

import io
import sys
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from PIL import Image

from teddy.artifacts.fingerprint import fingerprint
from teddy.config.errors import BadInput
from teddy.data.sources.base import Loaded, numbered_ids

if TYPE_CHECKING:
    import torch

    from teddy.data.images import ImageSet

TEST_SPLITS = ("test", "validation", "valid", "val")
IN_MEMORY_BYTES = 300_000_000
"""Sets up to this many bytes of pixels are decoded once; larger ones in each epoch."""


class HuggingFace:
    """A dataset of the Hub (``name``) or a folder of files ``<split>-*.parquet`` (``root``), read with
    ``datasets``.
    """

    def __init__(
        self,
        root: str | None = None,
        name: str | None = None,
        config: str | None = None,
        revision: str | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        channels: int | None = None,
        size: int | None = None,
        resize: int | None = None,
        cache: str | None = None,
    ) -> None:
        """Takes where the data are; a folder wins over the Hub.

        Args:
            config: the Hub's name for a variant of the dataset.
            image_column, label_column: needed only where there are several of a kind.
            channels, size, resize: the geometry; ``None`` reads it from the first image.
            cache: folder for decoded pixels; without it small sets are decoded in each run.

        Raises:
            BadInput: neither ``root`` nor ``name`` is given.
        """
        if root is None and name is None:
            raise BadInput(
                "dataset.source.name and dataset.root are both null; give a dataset of the Hub (OWNER/NAME) "
                "or a folder of "
                "parquet files called train-*.parquet and test-*.parquet."
            )
        self.root = None if root is None else Path(root).expanduser()
        self.name, self.config, self.revision = name, config, revision
        self.image_column, self.label_column = image_column, label_column
        self.channels, self.size, self.resize = channels, size, resize
        self.cache = None if cache is None else Path(cache).expanduser()

    def check(self) -> None:
        """Raises BadInput if a folder is given that does not hold the files; the Hub is not asked."""
        if self.root is not None:
            self._parquet()

    def fingerprint(self) -> str:
        """From the files' names and sizes, or from the Hub's revision; and from the chosen columns."""
        columns = [self.image_column, self.label_column]
        if self.root is not None:
            files = sorted((path.name, path.stat().st_size) for paths in self._parquet().values() for path in paths)
            return fingerprint({"source": "parquet", "files": files, "columns": columns})
        try:
            builder = _library().load_dataset_builder(self.name, self.config, revision=self.revision)
        except Exception as error:  # the library raises its own kinds, and those of its HTTP client
            raise self._unreachable(error) from error
        return fingerprint({"source": "hub", "name": self.name, "version": builder.hash, "columns": columns})

    def load(self) -> Loaded:
        """Opens the tables; small sets of equally large images are decoded into memory.

        Raises:
            BadInput: files, splits or columns are missing, or an image is unreadable.
        """
        import torch

        from teddy.data.sources.table import TableImages

        tables = self._tables
        image, label = self._columns(tables["train"].features)
        train_labels = torch.tensor(tables["train"][label][:], dtype=torch.int64)
        test_name, test_labels = self._test_split(label)
        names = self._class_names(tables["train"].features[label], train_labels)

        first = TableImages(tables["train"], image, train_labels, self.channels or 3, 1)
        width, height = first.open(0).size
        channels = self.channels or (1 if _grey(first.table[0][image]) else 3)
        if self.size is None and width != height:
            raise BadInput("the images are not square; set dataset.size to the pixels you want.")
        size = self.size or width

        train: ImageSet = TableImages(tables["train"], image, train_labels, channels, size, self.resize)
        test: ImageSet = TableImages(tables[test_name], image, test_labels, channels, size, self.resize)
        small = (len(train) + len(test)) * channels * size * size <= IN_MEMORY_BYTES
        # Images that were larger would lose what a random crop may show, so they stay encoded.
        if small and self.resize is None and _all_of_size(tables["train"], image, size):
            train, test = self._decoded(train, test, channels, size)
        return Loaded(
            train=train,
            test=test,
            class_names=names,
            class_ids=numbered_ids(names),
            channels=channels,
            size=size,
        )

    def _decoded(self, train: ImageSet, test: ImageSet, channels: int, size: int) -> tuple[ImageSet, ImageSet]:
        from teddy.data.sources.decoded import decode, decode_once

        if self.cache is None:
            return decode(train), decode(test)
        key = fingerprint({"data": self.fingerprint(), "channels": channels, "size": size})
        return decode_once(train, test, self.cache, key)

    def _parquet(self) -> dict[str, list[Path]]:
        assert self.root is not None
        files = {split: sorted(self.root.glob(f"{split}-*.parquet")) for split in ("train", *TEST_SPLITS)}
        found = {split: paths for split, paths in files.items() if paths}
        if "train" not in found or len(found) < 2:
            raise BadInput(
                f"dataset.root={self.root} does not hold files called train-*.parquet and test-*.parquet "
                "(or validation-*); "
                "put them there or set dataset.root to null and dataset.source.name to a dataset of the Hub."
            )
        return found

    @cached_property
    def _tables(self) -> dict[str, Any]:
        library = _library()
        if self.root is not None:
            paths = {split: [str(path) for path in found] for split, found in self._parquet().items()}
            place = None if self.cache is None else str(self.cache / "tables")
            try:
                tables = library.load_dataset("parquet", data_files=paths, cache_dir=place)
            except Exception as error:  # Arrow's and the library's own kinds
                raise BadInput(
                    f"the parquet files in {self.root} cannot be read ({error}); fetch them again."
                ) from error
        else:
            try:
                tables = library.load_dataset(self.name, self.config, revision=self.revision)
            except Exception as error:
                raise self._unreachable(error) from error
        if "train" not in tables:
            raise BadInput(f"{self.name} has no split called train (only {', '.join(tables)}); choose another dataset.")
        image, _ = self._columns(tables["train"].features)
        return {split: table.cast_column(image, library.Image(decode=False)) for split, table in tables.items()}

    def _unreachable(self, error: Exception) -> BadInput:
        reason = " ".join(str(error).split())
        return BadInput(
            f"dataset.source.name={self.name} cannot be fetched from the Hub ({reason}); check the name and "
            "the network, or set "
            "dataset.root to a folder of its parquet files."
        )

    def _columns(self, features: Any) -> tuple[str, str]:
        library = _library()
        images = [name for name, feature in features.items() if isinstance(feature, library.Image)]
        labels = [name for name, feature in features.items() if isinstance(feature, library.ClassLabel)]
        if not labels:
            labels = [
                name for name, feature in features.items() if str(getattr(feature, "dtype", "")).startswith("int")
            ]
        return (
            _one("image_column", self.image_column, images, features),
            _one("label_column", self.label_column, labels, features),
        )

    def _test_split(self, label: str) -> tuple[str, torch.Tensor]:
        import torch

        present = [split for split in TEST_SPLITS if split in self._tables]
        for split in present:
            labels = torch.tensor(self._tables[split][label][:], dtype=torch.int64)
            if len(labels) and labels.min() >= 0:  # the Hub writes -1 where the labels are kept secret
                return split, labels
        raise BadInput(
            f"{self.root or self.name} has no labelled split called {', '.join(TEST_SPLITS)} (only "
            f"{', '.join(self._tables)}); "
            "choose a dataset that has one."
        )

    def _class_names(self, feature: Any, labels: torch.Tensor) -> tuple[str, ...]:
        names = getattr(feature, "names", None)
        return tuple(names) if names else tuple(str(index) for index in range(int(labels.max()) + 1))


def _library() -> ModuleType:
    try:
        import datasets
    except ImportError as error:
        raise BadInput(
            "this dataset is read with the package datasets; run pip install 'teddy-distill[hf]'."
        ) from error
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()  # they would fill a log file
    return datasets


def _one(option: str, wanted: str | None, found: list[str], features: Any) -> str:
    if wanted is not None:
        if wanted in features:
            return wanted
        raise BadInput(f"dataset.source.{option}={wanted} is no column of the data, which have {', '.join(features)}.")
    if len(found) == 1:
        return found[0]
    state = (
        f"several columns that fit ({', '.join(found)})"
        if found
        else f"no column that fits among {', '.join(features)}"
    )
    raise BadInput(f"the data have {state}; set dataset.source.{option} to the right one.")


def _grey(cell: dict[str, Any]) -> bool:
    with Image.open(io.BytesIO(cell["bytes"]) if cell["bytes"] is not None else cell["path"]) as image:
        return image.mode in ("L", "1", "I;16")


def _all_of_size(table: Any, column: str, size: int) -> bool:
    """Whether a hundred evenly spaced images are squares of ``size`` pixels; reads headers only."""
    for index in range(0, len(table), max(1, len(table) // 100)):
        cell = table[index][column]
        with Image.open(io.BytesIO(cell["bytes"]) if cell["bytes"] is not None else cell["path"]) as image:
            if image.size != (size, size):
                return False
    return True
