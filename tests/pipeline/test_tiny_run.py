"""What one run through all stages leaves for people and for other tools."""

import csv
import json

import datasets
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torchvision.datasets import ImageFolder

CLASSES = ["t_shirt_top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot"]
FOLDERS = [f"{index:02d}_{name}" for index, name in enumerate(CLASSES)]


@pytest.fixture(scope="module")
def run(finished):
    return finished.done.folder


@pytest.fixture(scope="module")
def images(finished):
    """The distilled images' folder by method."""
    return {
        row["method"]: finished.desk.store / "images" / row["fingerprints"]["images"] / "images"
        for row in finished.done.rows
    }


def test_the_ledger_has_a_row_for_each_method(finished):
    rows = finished.done.rows
    assert [row["method"] for row in rows] == ["teddy", "random"]
    for row in rows:
        assert (row["dataset"], row["ipc"], row["seed"], row["student"]) == ("fashion_mini", 1, 0, "convnet2_w8")
        assert (row["protocol"], row["labels"], row["pool"]) == ("paper", "stored", "prior 1-3 (2)")
        assert 0 <= row["top1"] <= 100
        assert row["seconds"] > 0
    one, other = (row["fingerprints"] for row in rows)
    assert one["pool"] == other["pool"]
    assert one["images"] != other["images"]
    for row in rows:
        manifest = finished.desk.store / "students" / row["fingerprints"]["student"] / "manifest.json"
        assert json.loads(manifest.read_text())["facts"]["top1"] == row["top1"]


def test_the_configuration_is_resolved_and_whole(run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["synthesis"]["ipc"] == 1
    assert config["evaluation"]["students"] == ["convnet2_w8"], "interpolations are resolved"
    assert config["pool"]["strategy"]["last"] == 3
    assert "${" not in (run / "config.yaml").read_text()


def test_the_log_says_what_was_made(run):
    log = (run / "teddy.log").read_text()
    assert "pool: epoch 3, held-out accuracy" in log
    assert "images: teddy in " in log


def test_the_report_says_the_ledgers_numbers(finished, run):
    text = (run / "results.md").read_text()
    for row in finished.done.rows:
        assert f"{row['top1']:.1f}" in text
    assert "random" in text
    assert (run / "index.html").stat().st_size > 10_000
    with (run / "results.csv").open() as stream:
        assert [float(row["top1"]) for row in csv.DictReader(stream)] == [row["top1"] for row in finished.done.rows]


@pytest.mark.parametrize("name", ["images_teddy", "images_random", "curves", "pool", "accuracy", "iterations"])
def test_everything_visual_ends_as_a_picture(run, name):
    with Image.open(run / "figures" / f"{name}.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    assert pixels.std() > 5, "not blank"


def test_curves_are_on_disk(run):
    with (run / "losses_teddy.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["synthesis/iteration"]) for row in rows] == [0, 5]
    names = {path.name for path in (run / "curves").iterdir()}
    assert {"pool.csv", "synthesis.csv"} < names
    assert len([name for name in names if name.startswith("evaluation-")]) == 2


def test_progress_is_shown_as_plain_lines_and_the_store_is_all_that_is_written_elsewhere(finished):
    for stage in ("pool", "synthesis", "labels", "evaluation"):
        assert f"\n{stage}: 0/" in f"\n{finished.done.err}"
    assert {path.name for path in finished.desk.folder.iterdir()} == {"run", "store"}


@pytest.mark.parametrize("method", ["teddy", "random"])
def test_torchvision_reads_the_images(images, method):
    folder = ImageFolder(str(images[method]))
    assert folder.classes == FOLDERS
    assert [label for _, label in folder] == list(range(10))
    assert {(image.size, image.mode) for image, _ in folder} == {((28, 28), "RGB")}  # torchvision converts to RGB


def test_hugging_face_datasets_reads_the_images(images, tmp_path):
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(images["teddy"]), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.features["label"].names == FOLDERS
    assert loaded["label"] == list(range(10))
    first = np.asarray(loaded[0]["image"])
    assert np.array_equal(first, np.asarray(Image.open(images["teddy"] / FOLDERS[0] / "0000.png")))


def test_random_images_are_training_images_of_their_class(images):
    from teddy.data.sources.embedded import FashionMini

    train = FashionMini(None).load().train
    for label, folder in enumerate(FOLDERS):
        picture = torch.from_numpy(np.array(Image.open(images["random"] / folder / "0000.png")))
        own = train.take(torch.nonzero(train.labels == label).flatten())[:, 0]
        assert (own == picture).flatten(1).all(1).any()


def test_the_store_holds_no_pixels_but_the_exported_ones(finished, images):
    """Invariant 5: students cannot see hidden floats, because there are none."""
    work = images["teddy"].parent
    left = {path.relative_to(work).as_posix() for path in work.rglob("*") if path.is_file()}
    frames = {name for name in left if name.startswith("frames/")}
    assert left - frames == {".lock", "manifest.json", *(f"images/{folder}/0000.png" for folder in FOLDERS)}
    assert {load_file(work / name)["images"].dtype for name in frames} == {torch.uint8}


def test_the_students_learned_from_these_images_and_the_stored_logits(finished, images):
    for row in finished.done.rows:
        manifest = finished.desk.store / "students" / row["fingerprints"]["student"] / "manifest.json"
        content = json.loads(manifest.read_text())["content"]
        assert content["images"] == images[row["method"]].parent.name
        assert content["labels"]["kind"] == "stored"
    for path in finished.desk.store.glob("labels/*/logits.npy"):
        logits = np.load(path, allow_pickle=False)
        assert logits.shape == (3, 10, 10)
        assert np.isfinite(logits).all()
        assert logits.std() > 0
