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

from teddy.artifacts.__main__ import main as verify_store
from teddy.sets.folder import open_set

CLASSES = ["t_shirt_top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot"]
FOLDERS = [f"{index:02d}_{name}" for index, name in enumerate(CLASSES)]


@pytest.fixture(scope="module")
def run(finished):
    return finished.done.folder


@pytest.fixture(scope="module")
def images(finished):
    """The distilled images' folder by method."""
    return {
        row["method"]: finished.workspace.store / "images" / row["fingerprints"]["images"] / "images"
        for row in finished.done.rows
    }


def test_the_results_log_has_a_row_for_each_method(finished):
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
        manifest = finished.workspace.store / "students" / row["fingerprints"]["student"] / "manifest.json"
        assert json.loads(manifest.read_text())["facts"]["top1"] == row["top1"]


def test_the_configuration_is_resolved_and_whole(run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["synthesis"]["ipc"] == 1
    assert config["evaluation"]["students"] == ["convnet2_w8"], "interpolations are resolved"
    assert config["pool"]["strategy"]["last"] == 3
    assert "${" not in (run / "config.yaml").read_text()


def test_the_log_names_what_was_made(run):
    log = (run / "teddy.log").read_text()
    assert "% on held-out images" in log.partition("pool prior: epoch 3, ")[2].partition("\n")[0]
    assert "images: teddy in " in log


def test_the_report_shows_the_numbers_of_the_results_log(finished, run):
    text = (run / "results.md").read_text()
    for row in finished.done.rows:
        assert f"{row['top1']:.1f}" in text
    assert "random" in text
    assert (run / "index.html").stat().st_size > 10_000
    with (run / "results.csv").open(newline="") as stream:
        assert [float(row["top1"]) for row in csv.DictReader(stream)] == [row["top1"] for row in finished.done.rows]


@pytest.mark.parametrize(
    "name", ["images_teddy", "images_random", "terms_teddy", "pool", "accuracy", "iterations_teddy"]
)
def test_everything_visual_ends_as_a_picture(run, name):
    with Image.open(run / "figures" / f"{name}.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    assert pixels.std() > 5, "not blank"


def test_curves_are_on_disk(finished, run):
    with (run / "terms_teddy.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(int(row["block"]), int(row["iteration"])) for row in rows] == [(0, 0), (0, 5)]
    assert list(rows[0])[2:] == ["loss", "cross_entropy", "bn_statistics"]
    assert not (run / "terms_random.csv").exists(), "real images are not optimised"
    curve = finished.done.curves("synthesis/teddy/")
    assert curve["synthesis/teddy/loss"] == [(0, float(rows[0]["loss"])), (5, float(rows[1]["loss"]))]
    assert len(finished.done.curves("pool/")["pool/loss"]) > 0
    for row in finished.done.rows:
        fit = f"evaluation/{row['method']}/paper/convnet2_w8/0"
        names = finished.done.curves(fit)
        assert len(names[f"{fit}/loss"]) == 3, "three epochs of one step"
        assert [value for _, value in names[f"{fit}/test/top1"]] == [pytest.approx(row["top1"], abs=1e-3)]


def test_the_run_describes_itself(finished, run):
    record = json.loads((run / "run.json").read_text())
    assert record["command"].startswith("python -m teddy +experiment=quickstart name=tiny ")
    assert record["overrides"]["experiment"] == "quickstart"  # typed with a +
    assert record["overrides"]["synthesis.ipc"] == "1"
    assert record["overrides"]["method"] == "[teddy,random]"
    assert "hydra.run.dir" not in record["overrides"]
    assert list(record["methods"]) == ["teddy", "random"], "in the order typed"
    for row in finished.done.rows:
        entry = record["methods"][row["method"]]
        assert entry["fingerprint"] == row["fingerprints"]["images"]
        assert (run / entry["terms"]).is_file() if entry["terms"] else row["baseline"]
    assert [(one["epoch"], one["chosen"]) for one in record["pool"]] == [(1, True), (3, True)]
    assert record["class_names"][0] == "t-shirt/top"
    assert not (run / ".hydra").exists()


def test_the_run_ends_with_the_folder_of_each_set(finished, run):
    lines = [line.split(maxsplit=1)[1] for line in finished.done.out.splitlines() if line.startswith("Set:")]
    assert lines == [f"{run / 'sets' / method} ({method})" for method in ("teddy", "random")]
    stored = list(finished.workspace.store.glob("labels/*/labels.safetensors"))
    for row in finished.done.rows:
        opened = open_set(run / "sets" / row["method"])
        assert opened.images.images.shape == (10, 1, 28, 28)
        (entry,) = opened.description.results
        assert (entry["top1"], entry["student"]) == ([row["top1"]], "convnet2_w8")
        assert entry["baseline"] == [one["top1"] for one in finished.done.rows if one["baseline"]]
        assert any((opened.path / "labels.safetensors").samefile(one) for one in stored)
    assert verify_store(["verify", str(finished.workspace.store)]) == 0, "links leave the store as it was"


def test_progress_is_shown_as_plain_lines_and_the_store_is_all_that_is_written_elsewhere(finished):
    for stage in ("pool", "synthesis", "labels", "evaluation"):
        assert f"\n{stage}: 0/" in f"\n{finished.done.err}"
    assert {path.name for path in finished.workspace.folder.iterdir()} == {"run", "store"}


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
    snapshots = {name for name in left if name.startswith("snapshots/")}
    assert len(snapshots) == 3
    assert left - snapshots == {
        ".lock",
        "manifest.json",
        "terms.csv",
        *(f"images/{folder}/0000.png" for folder in FOLDERS),
    }
    assert {load_file(work / name)["images"].dtype for name in snapshots} == {torch.uint8}


def test_the_students_learned_from_these_images_and_the_stored_logits(finished, images):
    for row in finished.done.rows:
        manifest = finished.workspace.store / "students" / row["fingerprints"]["student"] / "manifest.json"
        content = json.loads(manifest.read_text())["content"]
        assert content["images"] == images[row["method"]].parent.name
        assert content["labels"]["kind"] == "stored"
    for path in finished.workspace.store.glob("labels/*/labels.safetensors"):
        logits = load_file(path)["logits"].float()
        assert logits.shape == (3, 10, 10)
        assert logits.isfinite().all()
        assert logits.std() > 0
