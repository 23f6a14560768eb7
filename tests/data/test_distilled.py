from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from teddy.config.errors import UserError
from teddy.data.distilled import export_images, load_distilled
from teddy.data.spec import DatasetSpec

IDS = ("00_ant", "01_bee", "02_cat")


def spec(channels: int) -> DatasetSpec:
    one = (0.5,) * channels
    return DatasetSpec("made_up", 3, channels, 5, one, one, ("ant", "bee", "cat"), IDS)


def images(channels: int, n: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = torch.randint(0, 256, (n, channels, 5, 5), generator=torch.Generator().manual_seed(channels)).byte()
    return pixels, torch.tensor([2, 0, 1, 2, 1, 0, 2])[:n]


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_read_is_what_was_written(tmp_path, channels):
    pixels, labels = images(channels)
    export_images(tmp_path, pixels, labels, spec(channels))
    back = load_distilled(tmp_path, spec(channels))
    order = torch.argsort(labels, stable=True)
    assert torch.equal(back.labels, labels[order])
    assert torch.equal(back.images, pixels[order])
    assert Image.open(tmp_path / "02_cat" / "0002.png").mode == {1: "L", 3: "RGB"}[channels]


def test_torchvision_reads_it(tmp_path):
    pixels, labels = images(3)
    export_images(tmp_path, pixels, labels, spec(3))
    folder = ImageFolder(str(tmp_path))
    assert tuple(folder.classes) == IDS
    theirs = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image, _ in folder])
    assert folder.targets == sorted(labels.tolist())
    assert torch.equal(theirs, load_distilled(tmp_path, spec(3)).images)


def test_hugging_face_reads_it(tmp_path):
    datasets = pytest.importorskip("datasets", reason="the extra hf is not installed")
    pixels, labels = images(3)
    export_images(tmp_path / "images", pixels, labels, spec(3))
    table = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "images"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert tuple(table.features["label"].names) == IDS
    rows = sorted(table, key=lambda row: row["image"].filename)
    mine = load_distilled(tmp_path / "images", spec(3))
    assert [row["label"] for row in rows] == mine.labels.tolist()
    for row, image in zip(rows, mine.images, strict=True):
        assert np.array_equal(np.array(row["image"]), image.permute(1, 2, 0))


def test_a_missing_class_is_named(tmp_path):
    pixels, labels = images(3, n=2)
    export_images(tmp_path, pixels, labels, spec(3))
    with pytest.raises(UserError, match="01_bee holds no PNG"):
        load_distilled(tmp_path, spec(3))


@pytest.mark.parametrize("shape", [(6, 6, 3), (5, 5)])
def test_an_image_of_another_shape_is_named(tmp_path, shape):
    export_images(tmp_path, *images(3), spec(3))
    Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / "00_ant" / "0001.png")
    with pytest.raises(UserError, match=r"00_ant/0001\.png is"):
        load_distilled(tmp_path, spec(3))
