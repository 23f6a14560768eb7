"""Parquet files read with the package ``datasets``."""

from __future__ import annotations

import builtins
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from teddy.config.errors import UserError
from teddy.data.batches import load_batches
from teddy.data.images import TensorImages
from teddy.data.sources import hf
from teddy.data.sources.hf import HuggingFace

datasets = pytest.importorskip("datasets", reason="the extra hf is not installed")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

CIFAR = Path(__file__).resolve().parents[4] / "shared" / "data" / "cifar10"
NAMES = ["ant", "bee", "cat"]


def png(seed: int, width: int = 8, height: int = 8, mode: str = "RGB") -> dict:
    shape = (height, width) if mode == "L" else (height, width, 3)
    pixels, stream = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return {"bytes": stream.getvalue(), "path": f"{seed}.png"}


def write_split(folder: Path, split: str, cells: list[dict], labels: list[int], label_type=None, **more) -> None:
    columns = {"img": cells, "label": labels, **{name: values for name, (values, _) in more.items()}}
    features = {"img": datasets.Image(), "label": label_type or datasets.ClassLabel(names=NAMES)}
    features |= {name: feature for name, (_, feature) in more.items()}
    folder.mkdir(parents=True, exist_ok=True)
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    table.to_parquet(folder / f"{split}-00000-of-00001.parquet")


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "parquet"
    write_split(folder, "train", [png(i) for i in range(6)], [0, 1, 2, 2, 1, 0])
    write_split(folder, "test", [png(10 + i) for i in range(3)], [2, 1, 0])
    return folder


def source(folder: Path, **options) -> HuggingFace:
    return HuggingFace(root=str(folder), cache=str(folder.parent / "cache"), **options)


def pixels(seed: int, **options) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png(seed, **options)["bytes"])))


def test_small_sets_are_decoded_once(root):
    for _ in range(2):
        loaded = source(root).load()
        assert isinstance(loaded.train, TensorImages)
        assert loaded.train.labels.tolist() == [0, 1, 2, 2, 1, 0]
        for i, image in enumerate(loaded.train.images):
            assert np.array_equal(image.permute(1, 2, 0), pixels(i))
        assert np.array_equal(loaded.test.images[2].permute(1, 2, 0), pixels(12))
        assert (loaded.class_names, loaded.class_ids) == (tuple(NAMES), ("00_ant", "01_bee", "02_cat"))
        assert (loaded.channels, loaded.size) == (3, 8)
    assert len(list((root.parent / "cache").glob("*.safetensors"))) == 1


def test_without_a_cache_nothing_is_kept(root, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", root.parent / "library")
    loaded = HuggingFace(root=str(root)).load()
    assert isinstance(loaded.train, TensorImages)
    assert not (root.parent / "cache").exists()


def test_large_sets_stay_encoded(root, monkeypatch):
    monkeypatch.setattr(hf, "IN_MEMORY_BYTES", 100)
    loaded = source(root).load()
    assert not isinstance(loaded.train, TensorImages)
    assert np.array_equal(loaded.train.take([4])[0].permute(1, 2, 0), pixels(4))
    assert np.array_equal(loaded.train.open(3), pixels(3))


def test_images_of_many_sizes_are_brought_to_one(tmp_path):
    sizes = [(8, 8), (12, 9), (7, 20)]
    for split in ("train", "validation"):
        write_split(tmp_path / split, split, [png(i, w, h) for i, (w, h) in enumerate(sizes)], [0, 1, 2])
    folder = tmp_path / "train"
    (tmp_path / "validation" / "validation-00000-of-00001.parquet").rename(folder / "validation-0.parquet")
    loaded = source(folder, size=6).load()
    assert loaded.train.take([2, 0, 1]).shape == (3, 3, 6, 6)
    assert loaded.train.open(1).size == (12, 9)


def test_grey_images_have_one_channel(tmp_path):
    for split in ("train", "test"):
        write_split(tmp_path / "data", split, [png(i, mode="L") for i in range(3)], [0, 1, 2])
    loaded = source(tmp_path / "data").load()
    assert loaded.channels == 1
    assert np.array_equal(loaded.train.take([1])[0, 0], pixels(1, mode="L"))


def test_a_grey_image_among_colours_makes_no_set_grey(tmp_path):
    for split in ("train", "test"):
        write_split(tmp_path / "data", split, [png(0, mode="L"), png(1), png(2)], [0, 1, 2])
    loaded = source(tmp_path / "data").load()
    assert loaded.channels == 3
    assert np.array_equal(loaded.train.take([1])[0].permute(1, 2, 0), pixels(1))


def test_columns_are_found_by_their_type_or_named(tmp_path):
    coarse = ([1, 0, 0], datasets.ClassLabel(names=["x", "y"]))
    for split in ("train", "test"):
        write_split(tmp_path / "data", split, [png(i) for i in range(3)], [0, 1, 2], coarse=coarse)
    with pytest.raises(
        UserError, match=r"several columns that fit \(label, coarse\); set dataset\.source\.label_column"
    ):
        source(tmp_path / "data").load()
    assert source(tmp_path / "data", label_column="coarse").load().train.labels.tolist() == [1, 0, 0]
    with pytest.raises(UserError, match="label_column=fine is no column of the data, which have img, label, coarse"):
        source(tmp_path / "data", label_column="fine").load()


def test_plain_integers_serve_as_labels(tmp_path):
    for split in ("train", "test"):
        write_split(tmp_path / "data", split, [png(i) for i in range(3)], [0, 1, 2], datasets.Value("int64"))
    assert source(tmp_path / "data").load().class_names == ("0", "1", "2")


def test_a_test_split_without_labels_is_passed_over(root):
    write_split(root, "test", [png(0), png(1)], [-1, -1])
    with pytest.raises(UserError, match="no labelled split"):
        source(root).load()
    write_split(root, "validation", [png(0), png(1), png(2)], [0, 1, 2])
    assert source(root).load().test.labels.tolist() == [0, 1, 2]


def test_an_unreadable_image_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(hf, "IN_MEMORY_BYTES", 0)
    cells = [png(0), {"bytes": b"no image", "path": "1.png"}, png(2)]
    for split in ("train", "test"):
        write_split(tmp_path / "data", split, cells, [0, 1, 2])
    with pytest.raises(UserError, match="row 1 of the column img cannot be read"):
        source(tmp_path / "data").load().train.take([0, 1])


def write_cells(folder: Path, split: str, cells: list) -> None:
    """Write a split as it is: the library itself would put the files into the table."""
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    columns = {"img": pa.array(cells, datasets.Image().pa_type), "label": pa.array([0, 1, 2], pa.int64())}
    pq.write_table(pa.table(columns, schema=features.arrow_schema), folder / f"{split}-00000-of-00001.parquet")


INTEGER, WORD = datasets.Value("int64"), datasets.Value("string")


@pytest.mark.parametrize(
    ("train", "kind", "sentence"),
    [
        ([0, None, 1], INTEGER, "row 1 of the split train has no label; fill the column label"),
        ([0, 1, -1], INTEGER, r"must be 0, 1, … without a gap.* but -1 is missing or one too many"),
        ([0, 1, 3], INTEGER, r"without a gap.* but 2 is missing"),
        ([0, 1, 10**6], INTEGER, r"without a gap.* but 2 is missing"),
        ([0, 1, 1], None, r"without a gap.* but 2 is missing"),  # of the three names
        ([0, 0, 0], INTEGER, "two or more, but there is 1"),
        (["a", "b", "c"], WORD, r"no column that fits among img, label; set dataset\.source\.label_column"),
    ],
)
def test_labels_that_cannot_be_right_are_named(tmp_path, train, kind, sentence):
    write_split(tmp_path / "data", "train", [png(i) for i in range(3)], train, kind)
    write_split(tmp_path / "data", "test", [png(i) for i in range(3)], [train[0]] * 3, kind)
    with pytest.raises(UserError, match=sentence):
        source(tmp_path / "data").load()


def test_a_test_label_without_training_images_is_named(tmp_path):
    write_split(tmp_path / "data", "train", [png(i) for i in range(3)], [0, 1, 2], INTEGER)
    write_split(tmp_path / "data", "test", [png(i) for i in range(3)], [0, 1, 7], INTEGER)
    with pytest.raises(
        UserError, match=r"the split test has the label 7, and the training images have the classes 0 to 2"
    ):
        source(tmp_path / "data").load()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"label_column": "img"}, r"label_column=img holds no whole numbers"),
        ({"image_column": "label"}, r"image_column=label holds no images"),
    ],
)
def test_a_column_of_another_kind_is_named(root, options, sentence):
    with pytest.raises(UserError, match=sentence):
        source(root, **options).load()


def test_splits_with_other_columns_are_named(root):
    more = (["x"] * 3, WORD)
    write_split(root, "test", [png(i) for i in range(3)], [0, 1, 2], more=more)
    table = datasets.Dataset.from_dict({"img": [1, 2, 3]})
    table.to_parquet(root / "test-00000-of-00001.parquet")
    with pytest.raises(UserError, match=r"cannot be read|has no column label"):
        source(root).load()


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        (None, "row 1 of the column img holds no image; remove the row"),
        ({"bytes": None, "path": None}, "row 1 of the column img holds no image; remove the row"),
        ({"bytes": None, "path": "/etc/hostname"}, "row 1 .* names the file /etc/hostname, which is not in"),
        ({"bytes": None, "path": "../secret.png"}, r"row 1 .* names the file .*/secret\.png, which is not in"),
        ({"bytes": None, "path": "nowhere.png"}, r"row 1 .*nowhere\.png, cannot be read"),
    ],
)
def test_a_cell_that_is_no_image_of_the_dataset_is_named(root, cell, sentence):
    Image.new("RGB", (8, 8)).save(root.parent / "secret.png")
    write_cells(root, "train", [png(0), cell, png(2)])
    with pytest.raises(UserError, match=sentence):
        source(root).load()


def test_a_path_inside_the_folder_is_read(root):
    Image.fromarray(pixels(5)).save(root / "here.png")
    write_cells(root, "train", [png(0), {"bytes": None, "path": "here.png"}, png(2)])
    assert np.array_equal(source(root).load().train.take([1])[0].permute(1, 2, 0), pixels(5))


def test_fingerprint_follows_the_files_and_not_the_place(root):
    before = source(root).fingerprint()
    moved = root.rename(root.parent / "elsewhere")
    assert source(moved).fingerprint() == before
    write_split(moved, "train", [png(i) for i in range(7)], [0, 1, 2, 2, 1, 0, 0])
    assert source(moved).fingerprint() != before


@pytest.mark.parametrize("missing", ["train", "test"])
def test_missing_files_say_what_to_put_where(root, missing):
    (root / f"{missing}-00000-of-00001.parquet").unlink()
    with pytest.raises(UserError, match=r"does not hold files called train-\*\.parquet and test-\*\.parquet"):
        source(root).fingerprint()


def test_damaged_parquet(root):
    (root / "train-00000-of-00001.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match="cannot be read"):
        source(root).load()


# --- WebDataset's tar files ---


def write_tar(path: Path, samples: dict[str, dict[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for key, members in samples.items():
            for ending, content in members.items():
                entry = tarfile.TarInfo(f"{key}.{ending}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return path


def sample(seed: int, label: object, **more: bytes) -> dict[str, bytes]:
    return {"jpg": png(seed, 8 + seed, 9)["bytes"], "cls": str(label).encode(), **more}


@pytest.fixture
def shards(tmp_path) -> Path:
    """Six training images in two shards, three validation images in a third."""
    for part in (0, 1):
        samples = {f"{part}/{i:04d}": sample(3 * part + i, i) for i in range(3)}
        write_tar(tmp_path / "tars" / f"some-train-{part:04d}.tar", samples)
    write_tar(tmp_path / "tars" / "some-validation-0000.tar", {f"{i}": sample(10 + i, i) for i in range(3)})
    return tmp_path / "tars"


def test_tar_shards_are_read_on_demand_by_several_workers(shards):
    loaded = source(shards, size=8).load()
    assert not isinstance(loaded.train, TensorImages)
    assert loaded.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert loaded.class_names == ("0", "1", "2")
    for index in range(6):
        assert np.array_equal(loaded.train.open(index), pixels(index, width=8 + index, height=9))
    order = [(0, torch.tensor([5, 0])), (0, torch.tensor([3]))]
    alone, by_workers = (list(load_batches(loaded.train, order, workers)) for workers in (0, 2))
    for one, other in zip(alone, by_workers, strict=True):
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))
    assert alone[0][0].shape == (2, 3, 8, 8)


def test_names_in_a_tar_file_lead_nowhere(shards):
    """Members named as files elsewhere, and links to such files, which a careless reader would write or follow."""
    secret = shards.parent / "secret.png"
    secret.write_bytes(png(7)["bytes"])
    with tarfile.open(shards / "some-train-0002.tar", "w") as archive:
        for key in ("../../evil", "/tmp/evil", "plain"):
            for ending, content in sample(1, 1).items():
                entry = tarfile.TarInfo(f"{key}.{ending}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            entry = tarfile.TarInfo("link.jpg")
            entry.type, entry.linkname = kind, str(secret)
            archive.addfile(entry)
    before = set(shards.parent.rglob("*"))
    loaded = source(shards, size=8).load()
    assert len(loaded.train) == 9
    assert np.array_equal(loaded.train.open(8), pixels(1, width=9, height=9))
    made = set(shards.parent.rglob("*")) - before
    assert all(path.is_relative_to(shards.parent / "cache") for path in made)
    assert not any(path.exists() for path in (Path("/tmp/evil.jpg"), shards.parent.parent / "evil.jpg"))


def cut(shards: Path) -> None:
    path = shards / "some-train-0001.tar"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 4 + 100])


def no_tar(shards: Path) -> None:
    (shards / "some-train-0001.tar").write_bytes(b"no tar")


def other(**members: bytes) -> Callable[[Path], object]:
    return lambda shards: write_tar(shards / "some-train-0001.tar", {"0": sample(0, 0), "1": members})


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (cut, r"the shards in .* cannot be read \(.*\); fetch them again"),
        (no_tar, r"the shards in .* cannot be read \(.*\); fetch them again"),
        (other(jpg=b"x", cls=b"cat"), r"the shards in .* cannot be read"),
        (other(jpg=b"x", txt=b"0"), r"the shards in .* cannot be read|has no label; fill"),
        (other(jpg=b"x", cls=b"7"), r"without a gap.* but 3 is missing"),
        (other(jpg=b"x", cls=b"-1"), r"without a gap.* but -1 is missing or one too many"),
        (other(jpg=b"x", cls=b"0"), r"row 4 of the column jpg cannot be read as an image"),
    ],
    ids=["cut", "no tar", "label a word", "no label", "label out of range", "negative label", "no image"],
)
def test_a_tar_file_that_cannot_be_used_is_named(shards, harm, sentence):
    harm(shards)
    with pytest.raises(UserError, match=sentence) as caught:
        source(shards, size=8).load().train.take(range(5))
    assert "\n" not in str(caught.value)


def test_nothing_given():
    with pytest.raises(UserError, match=r"dataset\.source\.name and dataset\.root are both null"):
        HuggingFace()


def test_the_missing_package_is_named(root, monkeypatch):
    real = builtins.__import__

    def without_datasets(name, *args, **kwargs):
        if name == "datasets":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_datasets)
    with pytest.raises(UserError, match=r"pip install 'teddy-distill\[hf\]'"):
        source(root).load()


@pytest.mark.skipif(not CIFAR.is_dir(), reason="CIFAR-10's parquet files are not next to this repository")
def test_real_cifar10(tmp_path, monkeypatch):
    monkeypatch.setattr(hf, "IN_MEMORY_BYTES", 0)  # all 60,000 would take too long here
    only_test = tmp_path / "data"
    only_test.mkdir()
    for split in ("train", "test"):  # the test file serves as both, to be quick
        (only_test / f"{split}-0.parquet").symlink_to(CIFAR / "test-00000-of-00001.parquet")
    loaded = source(only_test).load()
    assert (loaded.channels, loaded.size, len(loaded.test)) == (3, 32, 10_000)
    assert loaded.class_names[:3] == ("airplane", "automobile", "bird")
    assert torch.bincount(loaded.test.labels).tolist() == [1000] * 10
    chosen = loaded.test.take(range(0, 10_000, 20)).float() / 255
    assert torch.allclose(chosen.mean((0, 2, 3)), torch.tensor([0.4914, 0.4822, 0.4465]), atol=0.02)
