"""Teddy from Python: load, distill, evaluate."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset
from torchvision.datasets import ImageFolder

import teddy
from teddy.config.errors import UserError
from teddy.data.sources.embedded import FashionMini
from teddy.data.sources.given import GivenImages, read_images

SETTINGS: dict[str, Any] = {
    "model.name": "convnet2_w8",
    "trainer": "cpu",
    "trainer.precision": "32-true",
    "trainer.workers": 0,
    "pool.first": 1,
    "pool.last": 2,
    "pool.every": 1,
    "pool.training.epochs": 2,
    "labels.epochs": 2,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with a store of its own."""
    folder, before = tmp_path_factory.mktemp("place"), Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TEDDY_STORE", raising=False)
        patch.chdir(folder)
        yield folder
    assert Path.cwd() == before


@pytest.fixture(scope="module")
def data(place: Path) -> teddy.DistilledSet:
    """A set of one random real image per class with stored labels."""
    return teddy.distill("fashion_mini", ipc=1, method="random", out="run", settings=SETTINGS)


def test_importing_teddy_imports_nothing_heavy() -> None:
    code = (
        "import sys, teddy, teddy.cli\n"
        "assert not {'torch', 'numpy', 'pandas', 'teddy.api'} & set(sys.modules), sorted(sys.modules)\n"
        "assert {'load', 'distill', 'evaluate', 'DistilledSet'} <= set(dir(teddy))\n"
        "assert not hasattr(teddy, 'distil')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_distill_makes_what_the_command_line_makes(data: teddy.DistilledSet, place: Path) -> None:
    assert data.folder.path == place / "run" / "sets" / "random"
    assert len(data) == 10
    record = json.loads((place / "run" / "run.json").read_text())
    assert record["command"] == data.description.command
    words = data.description.command.split("'")
    assert words[0].startswith("python -m teddy +experiment=quickstart dataset=fashion_mini ")
    train = FashionMini().load().train
    for image, label in zip(data.images, data.labels, strict=True):
        own = train.images[train.labels == label]
        assert (own == image).flatten(1).all(1).any(), "a real image of its class"


def test_distill_leaves_the_process_as_it_was(place: Path) -> None:
    logger, argv, here = logging.getLogger(), list(sys.argv), Path.cwd()
    before = list(logger.handlers), logger.level, logging.raiseExceptions, torch.get_num_threads()
    teddy.distill("fashion_mini", ipc=1, method="random", out="again", settings=SETTINGS)
    assert (list(logger.handlers), logger.level, logging.raiseExceptions, torch.get_num_threads()) == before
    assert (sys.argv, Path.cwd()) == (argv, here)


def test_load_finds_the_set_of_a_run_or_names_the_choices(data: teddy.DistilledSet, place: Path) -> None:
    assert teddy.load("run").folder.path == teddy.load(place / "run/sets/random").folder.path == data.folder.path
    shutil.copytree(place / "run", place / "two")
    shutil.copytree(place / "run/sets/random", place / "two/sets/other")
    with pytest.raises(UserError, match="sets/other, sets/random"):
        teddy.load("two")
    with pytest.raises(UserError, match="holds no set"):
        teddy.load(place / "nowhere")


def test_a_set_of_the_hub_is_fetched_and_checked(
    data: teddy.DistilledSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the hub's cache lays files out: links from a snapshot into its blobs."""
    snapshot, blobs = tmp_path / "datasets--me--set/snapshots/1", tmp_path / "datasets--me--set/blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(one for one in sorted(data.folder.path.rglob("*")) if one.is_file()):
        link = snapshot / path.relative_to(data.folder.path)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blobs / str(number))
        link.symlink_to(os.path.relpath(blobs / str(number), link.parent))
    asked = []

    def snapshot_download(name: str, repo_type: str, allow_patterns: list[str]) -> str:
        asked.append((name, repo_type))
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    found = teddy.load("me/set")
    assert asked == [("me/set", "dataset")]
    assert torch.equal(found.images, data.images)
    (blobs / "3").write_bytes(b"other")
    with pytest.raises(UserError, match="bytes instead of"):
        teddy.load("me/set")


def test_without_the_hub_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(UserError, match="me/unknown-set is no folder, and the Hugging Face hub") as caught:
        teddy.load("me/unknown-set")
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'teddy-distill\[hf\]'"):
        teddy.load("me/unknown-set")


@pytest.mark.parametrize(("protocol", "labels"), [("dm", "hard"), ("paper", "stored")])
def test_evaluate_is_a_table_of_students(data: teddy.DistilledSet, protocol: str, labels: str) -> None:
    table = teddy.evaluate(data, ["convnet2_w8"], protocol=protocol, seeds=2, epochs=2)
    assert isinstance(table, pd.DataFrame)
    assert table.seed.tolist() == [0, 1]
    assert set(table.labels) == {labels}
    assert table["mean"].tolist() == [pytest.approx(np.mean(table.top1))] * 2
    assert table["std"].tolist() == [pytest.approx(np.std(table.top1, ddof=1))] * 2
    again = teddy.evaluate(data.folder.path, ["convnet2_w8"], protocol=protocol, seeds=2, epochs=2)
    assert again.top1.tolist() == table.top1.tolist()
    assert again.seconds.tolist() == table.seconds.tolist(), "found in the store"


def test_a_student_of_the_run_and_one_of_the_set_are_the_same(place: Path) -> None:
    """The set holds all that the run's students saw, so that their accuracies agree to the last digit."""
    settings = SETTINGS | {
        "stages": ["pool", "synthesis", "labels", "evaluation"],
        "evaluation.protocol": "paper",
        "evaluation.epochs": 4,
        "evaluation.seeds": 2,
        "labels.epochs": None,
    }
    made = teddy.distill("fashion_mini", ipc=2, method="random", out="whole", settings=settings)
    (entry,) = made.description.results
    batch = {"evaluation.batch_size": 25, "trainer": "cpu", "trainer.precision": "32-true"}
    table = teddy.evaluate(made, ["convnet2_w8"], protocol="paper", seeds=2, epochs=4, settings=batch)
    assert table.top1.tolist() == entry["top1"] == entry["baseline"]


class Pairs(Dataset[tuple[Any, int]]):
    """Two classes of 12-pixel pictures: dark and bright."""

    classes = ("dark", "bright")

    def __init__(self, count: int, kind: str = "pil") -> None:
        self.count, self.kind = count, kind

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Any, int]:
        label = index % 2
        pixels = np.random.default_rng(index).integers(100 * label, 100 + 100 * label, (12, 12, 3), dtype=np.uint8)
        if self.kind == "pil":
            return Image.fromarray(pixels), label
        tensor = torch.from_numpy(pixels).permute(2, 0, 1)
        return (tensor if self.kind == "uint8" else tensor / 255), label


def test_a_torch_dataset_is_distilled_and_measured(place: Path) -> None:
    settings = SETTINGS | {"dataset.augment.dsa": "none", "labels.min_scale": 0.9}
    made = teddy.distill(Pairs(60), ipc=2, method="random", out="pairs", settings=settings)
    assert made.class_names == ["dark", "bright"]
    assert tuple(made.images.shape) == (4, 3, 12, 12)
    real = {Pairs(60)[index][0].tobytes() for index in range(60)}
    assert all(image.permute(1, 2, 0).numpy().tobytes() in real for image in made.images)
    table = teddy.evaluate(made, ["convnet2_w8"], dataset=Pairs(21), seeds=1, epochs=30)
    assert table.top1[0] > 90, "dark and bright are told apart"
    with pytest.raises(UserError, match="pairs cannot be found"):
        teddy.evaluate(made, ["convnet2_w8"])
    with pytest.raises(UserError, match="the one that it was made from"):
        teddy.evaluate(made, ["convnet2_w8"], dataset="fashion_mini")


def test_an_image_folder_is_distilled_by_its_path(place: Path) -> None:
    for index in range(40):
        image, label = Pairs(40)[index]
        path = place / "own" / ("test" if index > 29 else "train") / Pairs.classes[label] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    made = teddy.distill(place / "own", ipc=1, method="random", out="folder", settings=SETTINGS)
    assert made.class_names == sorted(Pairs.classes)
    assert ImageFolder(str(made.folder.path / "images")).classes == sorted(Pairs.classes)
    assert teddy.evaluate(made, ["convnet2_w8"], dataset=place / "own", seeds=1, epochs=1).top1[0] >= 0


@pytest.mark.parametrize("kind", ["pil", "uint8", "float"])
def test_images_of_every_kind_are_the_same_pixels(kind: str) -> None:
    images = read_images(Pairs(4, kind))
    expected = np.stack([np.asarray(Pairs(4)[index][0]) for index in range(4)]).transpose(0, 3, 1, 2)
    assert np.array_equal(images.images.numpy(), expected)
    assert images.labels.tolist() == [0, 1, 0, 1]
    assert read_images(Pairs(4, kind), channels=1, size=6).images.shape == (4, 1, 6, 6)
    assert GivenImages(Pairs(4, kind)).fingerprint() == GivenImages(Pairs(4)).fingerprint()
    assert GivenImages(Pairs(6)).fingerprint() != GivenImages(Pairs(4)).fingerprint()


def test_grey_tensors_without_an_axis_of_channels_are_images() -> None:
    pixels = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8).repeat(2, 1, 1)
    assert torch.equal(read_images(TensorDataset(pixels, torch.tensor([0, 1]))).images[:, 0], pixels)


BAD: dict[str, tuple[Any, str]] = {
    "normalised": (TensorDataset(torch.randn(2, 1, 8, 8), torch.tensor([0, 1])), "item 0 .* not in"),
    "sixteen bits": (TensorDataset(torch.full((2, 1, 8, 8), 300), torch.tensor([0, 1])), "item 0 .*torch.int64"),
    "no image": ([("word", 0)], "item 0 "),
    "no pair": ([Image.new("L", (8, 8))], "item 0 "),
    "no square": ([(Image.new("L", (8, 9)), 0)], "item 0 .*square"),
    "two sizes": ([(Image.new("L", (8, 8)), 0), (Image.new("L", (9, 9)), 1)], "item 1 .*square"),
    "negative": ([(Image.new("L", (8, 8)), -1)], "item 0 "),
    "empty": ([], "at least one image"),
    "a stream": ((item for item in ()), "at least one image"),
    "a gap": ([(Image.new("L", (8, 8)), 1)], "not an image of each"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_dataset_of_images_is_refused(place: Path, case: str) -> None:
    items, words = BAD[case]
    with pytest.raises(UserError, match=words):
        teddy.distill(items, ipc=1, method="random", settings=SETTINGS)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"synthesis.iteration": 5}, "synthesis.iteration"),
        ({"synthesis.iterations": -1}, "synthesis.iterations=-1"),
        ({"sweep": "ipc"}, "for the command line"),
        ({"hydra.run.dir": "x"}, "for the command line"),
        ({"trainer.devices": 2}, "several devices"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_written(
    place: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        teddy.distill("fashion_mini", method="random", out="wrong", settings=SETTINGS | settings)
    assert not Path("wrong").exists()


def test_an_unknown_dataset_or_method_is_refused() -> None:
    with pytest.raises(UserError, match="fashion_mini"):
        teddy.distill("fashion_mimi")
    with pytest.raises(UserError, match="magic"):
        teddy.distill("fashion_mini", method="magic")
