"""An epoch of random crops from JPEG files, in folders and in WebDataset's tar files, beside torchvision's loader."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.transforms import v2

from benchmarks.setting import Setting
from benchmarks.timing import Row, Work, compare, interleaved
from teddy.data.augment import Augmentation
from teddy.data.datamodule import RealData
from teddy.data.sources.base import Source
from teddy.data.sources.folders import ImageFolder
from teddy.data.sources.hf import HuggingFace
from teddy.data.spec import DatasetSpec

LIMIT = 1.10
IMAGES, CLASSES, SIDE, SIZE, BATCH, WORKERS = 2000, 10, 256, 224, 64, 2
AUGMENT = Augmentation(crop="resized", min_scale=0.08, flip=True)  # conf/dataset/imagenet.yaml


def rows(setting: Setting) -> Iterator[Row]:
    folder = setting.scratch("decoding")
    write(folder, 200 if setting.quick else IMAGES)
    count = sum(1 for _ in (folder / "folders" / "train").rglob("*.jpg"))
    sources: dict[str, Source] = {
        "folders": ImageFolder(str(folder / "folders"), channels=3, size=SIZE),
        "tar files": HuggingFace(str(folder / "tars"), channels=3, size=SIZE, resize=SIDE, cache=str(folder / "cache")),
    }
    works = [epoch(reference(folder / "folders" / "train"))]
    for source in sources.values():
        loaded = source.load()
        flat = (0.5,) * 3
        spec = DatasetSpec("jpeg", CLASSES, 3, SIZE, flat, flat, loaded.class_names, loaded.class_ids)
        works.append(epoch(RealData(spec, loaded.train, AUGMENT, 0.0, BATCH, 0, WORKERS).train_dataloader()))
    torchvision, *ours = interleaved(works, setting.device, min(3, setting.rounds))
    for name, seconds in zip(sources, ours, strict=True):
        what = f"crops from {count} JPEGs of {SIDE} px in {name}, {WORKERS} workers (s per 1000)"
        yield compare(what, 1000 * seconds / count, 1000 * torchvision / count, LIMIT)


def epoch(loader: Iterable[object]) -> Work:
    def work() -> None:
        for _ in loader:
            pass

    return work


def reference(folder: Path) -> DataLoader[object]:
    """What a training script on ImageNet has: an ImageFolder, random crops and flips of each image, a DataLoader."""
    steps = [v2.RandomResizedCrop(SIZE, antialias=True), v2.RandomHorizontalFlip(), v2.PILToTensor()]
    images = datasets.ImageFolder(str(folder), v2.Compose(steps))
    return DataLoader(images, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)


def write(folder: Path, count: int) -> None:
    """Write smooth random images, about 15 kB each as JPEG: ``folders/{train,test}/<class>/*.jpg`` and ``tars/*.tar``."""
    generator = np.random.default_rng(0)
    (folder / "tars").mkdir(parents=True)
    for split, number in (("train", count), ("test", CLASSES)):
        with tarfile.open(folder / "tars" / f"{split}-0000.tar", "w") as archive:
            for index in range(number):
                coarse = Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8))
                stream = io.BytesIO()
                coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
                label = index % CLASSES
                place = folder / "folders" / split / str(label)
                place.mkdir(parents=True, exist_ok=True)
                (place / f"{index:05d}.jpg").write_bytes(stream.getvalue())
                for ending, content in (("jpg", stream.getvalue()), ("cls", str(label).encode())):
                    entry = tarfile.TarInfo(f"{index:05d}.{ending}")
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
