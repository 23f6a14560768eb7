"""Folders of image files: one's own, ImageNet, Tiny-ImageNet."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from torchvision.datasets import ImageFolder as TorchvisionFolder
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

from teddy.artifacts.fingerprint import fingerprint
from teddy.config.errors import UserError
from teddy.data.images import TensorImages
from teddy.data.sources.folders import ImageFolder, ImageNet
from teddy.data.sources.tiny import TinyImageNet

CLASSES = ("ant", "bee", "cat")


@pytest.fixture
def root(tmp_path, write_image) -> Path:
    folder = tmp_path / "data"
    for split, n in (("train", 3), ("test", 2)):
        for c, name in enumerate(CLASSES):
            for i in range(n):
                write_image(folder / split / name / f"{i}.png", seed=100 * n + 10 * c + i)
    return folder


@pytest.fixture
def tiny(tmp_path, write_image) -> Path:
    """The official tree with three classes and validation images that are not sorted."""
    folder = tmp_path / "tiny-imagenet-200"
    wnids = ["n03", "n01", "n02"]
    for c, wnid in enumerate(wnids):
        for i in range(2):
            path = folder / "train" / wnid / "images" / f"{wnid}_{i}.JPEG"
            write_image(path, seed=10 * c + i, width=64, height=64, mode="L" if c == 1 else "RGB")
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text("0\t0\t1\t1\n")
    lines = []
    for i, wnid in enumerate(["n02", "n03", "n01", "n02"]):
        write_image(folder / "val" / "images" / f"val_{i}.JPEG", seed=50 + i, width=64, height=64)
        lines.append(f"val_{i}.JPEG\t{wnid}\t0\t0\t62\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\tbee\nn03\tant\nn99\tnothing\n")
    return folder


@pytest.mark.parametrize("split", ["train", "test"])
def test_image_folder_agrees_with_torchvision(root, split):
    mine = getattr(ImageFolder(str(root)).load(), split)
    theirs = TorchvisionFolder(str(root / split))
    assert mine.labels.tolist() == theirs.targets
    expected = torch.stack([tvf.pil_to_tensor(image) for image, _ in theirs])
    assert torch.equal(mine.take(range(len(mine))), expected)


def test_hidden_files_are_ignored_and_folders_below_a_class_are_read(root, write_image):
    expected = ImageFolder(str(root)).load().train.take(range(9))
    (root / "train" / "bee" / "._0.png").write_text("no image")
    write_image(root / "train" / ".hidden" / "0.png")
    write_image(root / "train" / "bee" / ".checkpoints" / "0.png")
    (root / "train" / "bee" / "inner").mkdir()
    (root / "train" / "bee" / "2.png").rename(root / "train" / "bee" / "inner" / "2.png")
    assert torch.equal(ImageFolder(str(root)).load().train.take(range(9)), expected)


def test_image_folder_facts(root):
    loaded = ImageFolder(str(root)).load()
    assert (loaded.class_ids, loaded.channels, loaded.size) == (CLASSES, 3, 8)


def test_grey_images_have_one_channel(tmp_path, write_image):
    for split in ("train", "val"):
        for name in CLASSES:
            write_image(tmp_path / split / name / "0.png", mode="L")
    loaded = ImageFolder(str(tmp_path)).load()
    assert loaded.channels == 1
    assert loaded.test.take([0]).shape == (1, 1, 8, 8)


def test_images_of_many_sizes_need_a_size(root, write_image):
    write_image(root / "train" / "bee" / "0.png", width=9)
    with pytest.raises(UserError, match=r"set dataset\.size"):
        ImageFolder(str(root)).load()
    assert ImageFolder(str(root), size=6).load().train.take([3]).shape == (1, 3, 6, 6)


def test_fingerprint_follows_the_files_and_not_the_place(root, write_image):
    before = ImageFolder(str(root)).fingerprint()
    assert ImageFolder(str(root)).fingerprint() == before
    moved = root.rename(root.parent / "elsewhere")
    assert ImageFolder(str(moved)).fingerprint() == before
    write_image(moved / "train" / "ant" / "new.png")
    assert ImageFolder(str(moved)).fingerprint() != before


@pytest.fixture
def flat(root) -> Path:
    """The classes themselves, three images of each."""
    return root / "train"


def test_a_flat_folder_is_split_and_the_files_of_both_parts_are_named(flat):
    source = ImageFolder(str(flat), test_fraction=0.4)
    source.check()
    loaded = source.load()
    assert (len(loaded.train), len(loaded.test), loaded.class_ids) == (6, 3, CLASSES)
    for part, names in loaded.drawn.items():
        images, expected = getattr(loaded, part), TorchvisionFolder(str(flat))
        assert [CLASSES[label] for label in images.labels] == [Path(name).parent.name for name in names]
        by_name = {
            Path(path).relative_to(flat).as_posix(): tvf.pil_to_tensor(expected.loader(path))
            for path, _ in expected.samples
        }
        assert torch.equal(images.take(range(len(images))), torch.stack([by_name[name] for name in names]))
    assert not set(loaded.drawn["train"]) & set(loaded.drawn["test"])
    assert ImageFolder(str(flat.parent)).load().drawn is None


def test_the_split_is_part_of_the_fingerprint_and_the_other_layout_keeps_its_own(root, flat):
    one = {"test_fraction": 0.4}
    kinds = [one, one | {"seed": 1}, {"test_fraction": 0.5}, one | {"fit": "stretch"}, one | {"cache": "elsewhere"}]
    assert len({ImageFolder(str(flat), **kind).fingerprint() for kind in kinds}) == len(kinds)
    assert ImageFolder(str(root)).fingerprint() == ImageFolder(str(root), seed=1).fingerprint()
    # as versions without these options have it
    paths = sorted(root.rglob("*.png"))
    files = [(path.relative_to(root).as_posix(), path.stat().st_size) for path in paths]
    assert ImageFolder(str(root)).fingerprint() == fingerprint({"source": "imagefolder", "files": files})


def test_a_class_called_train_in_a_flat_folder_is_a_class(flat):
    (flat / "cat").rename(flat / "train")
    source = ImageFolder(str(flat), test_fraction=0.4)
    source.check()
    assert source.load().class_ids == ("ant", "bee", "train")


def test_a_folder_of_train_and_test_is_not_taken_for_two_classes(root):
    with pytest.raises(
        UserError, match=r"test_fraction=0\.4 .* holds test and train; set it to null, or name .*data/train"
    ):
        ImageFolder(str(root), test_fraction=0.4).check()


def test_a_flat_folder_without_a_fraction_is_told_of_it(flat):
    with pytest.raises(UserError, match=r"has no folder train; .* set dataset\.test_fraction=0\.2"):
        ImageFolder(str(flat)).check()


def test_images_that_are_not_square_are_cut_or_stretched_and_the_run_is_told(root, write_image):
    assert ImageFolder(str(root)).load().remark == ""
    pixels = write_image(root / "train" / "ant" / "0.png", seed=5, width=12, height=6)
    for fit, expected, words in (
        ("crop", pixels[:, 3:9], "12 x 6.*shorter side is scaled to 6.*fit=stretch"),
        ("stretch", None, "both sides are scaled to 6.*fit=crop"),
    ):
        loaded = ImageFolder(str(root), size=6, fit=fit).load()
        assert re.search(words, loaded.remark)
        whole = v2.functional.resize(torch.from_numpy(pixels).permute(2, 0, 1), [6, 6], antialias=True)
        wanted = whole if expected is None else torch.from_numpy(expected.copy()).permute(2, 0, 1)
        assert (loaded.train.take([0])[0].int() - wanted.int()).abs().max() <= 1
    with pytest.raises(UserError, match=r"dataset\.source\.fit=pad is not known; choose one of crop, stretch"):
        ImageFolder(str(root), fit="pad")


def test_a_folder_is_decoded_once_into_a_cache(root, tmp_path):
    whole = ImageFolder(str(root)).load().train.take(range(9))
    for _ in range(2):
        loaded = ImageFolder(str(root), cache=str(tmp_path / "cache")).load()
        assert isinstance(loaded.train, TensorImages)
        assert torch.equal(loaded.train.images, whole)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_what_memory_cannot_hold_is_not_decoded(root, tmp_path):
    with pytest.raises(UserError, match=r"take .* GB, and memory has .* lower dataset\.size"):
        ImageFolder(str(root), size=200_000, cache=str(tmp_path / "cache")).load()
    assert not (tmp_path / "cache").exists()


def empty_class(root: Path) -> None:
    shutil.rmtree(root / "train" / "bee")
    (root / "train" / "bee").mkdir()
    (root / "train" / "bee" / "notes.txt").write_text("no image")


def other_class(root: Path) -> None:
    (root / "test" / "cat").rename(root / "test" / "dog")


def empty_train(root: Path) -> None:
    shutil.rmtree(root / "train")
    (root / "train").mkdir()


@pytest.mark.parametrize(
    "damage, sentence",
    [
        (shutil.rmtree, r"dataset\.root=.*data does not exist; put the images as train/<class>"),
        (lambda root: shutil.rmtree(root / "train"), "has no folder train; put the images"),
        (lambda root: shutil.rmtree(root / "test"), "has no folder test or val; .*some of each class as test/<class>"),
        (empty_train, "holds 0 class folders"),
        (empty_class, "train/bee holds no image"),
        (other_class, "test and the training images do not both have the class cat, dog"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(root, damage, sentence):
    damage(root)
    for ask in ("fingerprint", "load"):
        with pytest.raises(UserError, match=sentence):
            getattr(ImageFolder(str(root)), ask)()


def link_to_above(root: Path) -> None:
    (root / "train" / "bee" / "again").symlink_to(root / "train")


def link_to_itself(root: Path) -> None:
    (root / "train" / "bee" / "x.png").symlink_to(root / "train" / "bee" / "x.png")


def pipe(root: Path) -> None:
    os.mkfifo(root / "train" / "bee" / "x.png")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (link_to_above, "bee/again is a link to a folder that it lies in; remove it"),
        (link_to_itself, r"bee/x\.png cannot be read \(Too many levels of symbolic links\)"),
        (pipe, r"bee/x\.png is no ordinary file; remove it"),
    ],
)
def test_what_would_be_read_for_ever_is_refused(root, damage, sentence):
    damage(root)
    with pytest.raises(UserError, match=sentence):
        ImageFolder(str(root)).fingerprint()


def test_a_link_to_another_class_is_followed(root):
    (root / "train" / "bee" / "more").symlink_to(root / "train" / "ant")
    assert ImageFolder(str(root)).load().train.labels.tolist() == [0] * 3 + [1] * 6 + [2] * 3


@pytest.mark.parametrize("locked", ["train", "train/bee"])
def test_a_folder_that_may_not_be_read_is_named(root, monkeypatch, locked):
    real = os.scandir

    def scandir(path):
        if Path(path) == root / locked:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "listdir", lambda path: [entry.name for entry in scandir(path)])
    with pytest.raises(UserError, match=rf"{locked} cannot be read \(Permission denied\); make it readable"):
        ImageFolder(str(root)).fingerprint()


def test_no_folder_at_all():
    with pytest.raises(UserError, match=r"dataset\.root is not set"):
        ImageFolder(None)
    with pytest.raises(UserError, match=r"image-net.org"):
        ImageNet(None)
    with pytest.raises(UserError, match=r"tiny-imagenet-200.zip"):
        TinyImageNet(None)


def test_an_unreadable_image_is_named_when_it_is_needed(root):
    (root / "train" / "cat" / "1.png").write_text("no image")
    images = ImageFolder(str(root)).load().train
    images.take(range(7))
    with pytest.raises(UserError, match=r"cat/1\.png cannot be read"):
        images.take([7])


def test_imagenet_geometry_and_names(tmp_path, write_image):
    for split in ("train", "val"):
        for wnid in ("n01440764", "n01443537"):
            write_image(tmp_path / split / wnid / f"{wnid}_1.JPEG", width=300, height=270)
    loaded = ImageNet(str(tmp_path)).load()
    assert loaded.test.take([0, 1]).shape == (2, 3, 224, 224)
    assert loaded.test.resize == 256
    assert loaded.class_names == ("n01440764", "n01443537")
    names = ImageNet(str(tmp_path)).names(tuple(f"n{i:08d}" for i in range(1000)))
    assert (names[0], names[999]) == ("tench", "toilet tissue")


def test_tiny_imagenet_official_tree(tiny):
    loaded = TinyImageNet(str(tiny)).load()
    assert loaded.class_ids == ("n01", "n02", "n03")
    assert loaded.class_names == ("goldfish", "bee", "ant")
    assert [Path(path).name for path in loaded.train.paths] == [f"n0{c}_{i}.JPEG" for c in (1, 2, 3) for i in (0, 1)]
    assert loaded.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert [Path(path).name for path in loaded.test.paths] == ["val_2.JPEG", "val_0.JPEG", "val_3.JPEG", "val_1.JPEG"]
    assert loaded.test.labels.tolist() == [0, 1, 1, 2]
    assert loaded.train.take([0, 5]).shape == (2, 3, 64, 64)  # the first is grey in its file
    assert TinyImageNet(str(tiny.parent)).fingerprint() == TinyImageNet(str(tiny)).fingerprint()


def test_tiny_imagenet_sorted_validation_folders(tiny, write_image):
    expected = TinyImageNet(str(tiny)).load().test
    expected = expected.labels, expected.take(range(4))
    for line in (tiny / "val" / "val_annotations.txt").read_text().splitlines():
        name, wnid = line.split("\t")[:2]
        (tiny / "val" / wnid / "images").mkdir(parents=True, exist_ok=True)
        (tiny / "val" / "images" / name).rename(tiny / "val" / wnid / "images" / name)
    (tiny / "val" / "images").rmdir()
    moved = TinyImageNet(str(tiny)).load().test
    assert torch.equal(moved.labels, expected[0])
    assert torch.equal(moved.take(range(4)), expected[1])


def test_tiny_imagenet_is_decoded_once(tiny, tmp_path):
    files = TinyImageNet(str(tiny)).load()
    expected = files.train.take(range(6)), files.test.take(range(4))
    first = TinyImageNet(str(tiny), cache=str(tmp_path / "cache")).load()
    whole = {path: path.read_bytes() for path in tiny.rglob("*.JPEG")}
    for path in whole:  # of the same size, but no longer images: only the cache can serve them
        path.write_bytes(bytes(path.stat().st_size))
    again = TinyImageNet(str(tiny), cache=str(tmp_path / "cache")).load()
    for decoded in (first, again):
        assert isinstance(decoded.train, TensorImages)
        assert torch.equal(decoded.train.images, expected[0])
        assert torch.equal(decoded.test.images, expected[1])
    (kept,) = (tmp_path / "cache").iterdir()
    content = kept.read_bytes()
    for path, image in whole.items():
        path.write_bytes(image)
    for damaged in (content[:50], content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]):
        kept.write_bytes(damaged)
        assert torch.equal(TinyImageNet(str(tiny), cache=str(tmp_path / "cache")).load().train.images, expected[0])
        assert kept.read_bytes() == content


@pytest.mark.parametrize("part", ["train", "train/n02", "val", "val/val_annotations.txt", "val/images/val_1.JPEG"])
def test_tiny_imagenet_missing_parts(tiny, part):
    path = tiny / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UserError, match=Path(part).name):
        TinyImageNet(str(tiny)).fingerprint()


def test_a_line_without_a_class_in_tiny_imagenets_list_is_named(tiny):
    with (tiny / "val" / "val_annotations.txt").open("a") as stream:
        stream.write("val_3.JPEG n02\n")
    with pytest.raises(UserError, match=r"val_annotations\.txt has a line without a class; unpack"):
        TinyImageNet(str(tiny)).fingerprint()
