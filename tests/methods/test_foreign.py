"""Sets from elsewhere: each form that people share, read as the same images; what does not fit is refused."""

from __future__ import annotations

import datasets
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from teddy.config.errors import UserError
from teddy.data.spec import DatasetSpec
from teddy.methods.foreign import Foreign
from teddy.methods.foreign_images import match_classes, read_foreign

SPEC = DatasetSpec(
    "pets", 3, 3, 8, (0.4,) * 3, (0.25,) * 3, ("tabby cat", "dog", "t-shirt/top"), ("00_a", "01_b", "02_c")
)
PIXELS = torch.randint(0, 256, (6, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
LABELS = torch.tensor([2, 0, 1, 1, 0, 2])
ORDER = [1, 4, 2, 3, 0, 5]
"""By class, and as they come within one."""


def picture(index: int) -> Image.Image:
    return Image.fromarray(PIXELS[index].permute(1, 2, 0).numpy())


def folders(path, names):
    for index, label in enumerate(LABELS.tolist()):
        (path / names[label]).mkdir(parents=True, exist_ok=True)
        picture(index).save(path / names[label] / f"{index}.png")


def table():
    rows = {"image": [picture(index) for index in range(6)], "class_id": LABELS.tolist()}
    features = datasets.Features({"image": datasets.Image(), "class_id": datasets.ClassLabel(names=SPEC.class_names)})
    return datasets.Dataset.from_dict(rows, features=features)


def parquet(path):
    (path / "data").mkdir(parents=True)
    table().select(range(4)).to_parquet(str(path / "data" / "train-0.parquet"))
    table().select(range(4, 6)).to_parquet(str(path / "data" / "train-1.parquet"))
    table().to_parquet(str(path / "data" / "test-0.parquet"))


def saved(path):
    datasets.DatasetDict({"train": table(), "validation": table()}).save_to_disk(str(path))


def two_files(path):
    path.mkdir()
    torch.save(PIXELS / 255, path / "images_best.pt")
    torch.save(LABELS, path / "labels_best.pt")


def normalised(path):
    path.mkdir()
    save_file({"x": (PIXELS / 255 - 0.4) / 0.25, "y": torch.eye(3)[LABELS]}, path / "set.safetensors")


FORMS = {
    "folders by id": lambda path: folders(path, SPEC.class_ids),
    "folders by name": lambda path: folders(path, ["tabby_cat", "Dog", "t_shirt_top"]),
    "folders by number": lambda path: folders(path, ["new000", "new001", "new002"]),
    "parquet": parquet,
    "save_to_disk": saved,
    "two files": two_files,
    "normalised": normalised,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_as_the_same_images_by_class(form, tmp_path):
    FORMS[form](tmp_path / "set")
    found = read_foreign(tmp_path / "set", SPEC)
    assert torch.equal(found.images, PIXELS[ORDER])
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.counts == [2, 2, 2]


def test_what_is_assumed_of_pixels_is_said(tmp_path):
    torch.save([PIXELS.float(), LABELS], tmp_path / "levels.pt")
    assert "levels from 0 to 255" in read_foreign(tmp_path / "levels.pt", SPEC).notes[0]
    torch.save({"images": 4 * torch.ones(6, 3, 8, 8), "labels": LABELS}, tmp_path / "bright.pt")
    (note,) = read_foreign(tmp_path / "bright.pt", SPEC).notes
    assert "normalised by the mean and standard deviation of pets" in note
    assert "100.0% are beyond black or white" in note, "0.4 + 4 * 0.25 is 1.4"


def test_larger_images_are_scaled_as_the_datasets_are_and_that_is_said(tmp_path):
    folders(tmp_path, SPEC.class_ids)
    Image.new("L", (16, 12), 90).save(tmp_path / "00_a" / "1.png")
    found = read_foreign(tmp_path, SPEC)
    assert torch.equal(found.images[0], torch.full((3, 8, 8), 90, dtype=torch.uint8))
    assert found.notes == ("Images such as one of 16 x 12 pixels, mode L, are read as 8 x 8, RGB.",)


@pytest.mark.parametrize(
    ("names", "indices"),
    [(["2", "0", "1"], [2, 0, 1]), (["class_1", "class_2", "class_0"], [1, 2, 0]), (["DOG", "T-Shirt/Top"], [1, 2])],
)
def test_classes_are_matched_by_name_or_number(names, indices, tmp_path):
    assert match_classes(names, SPEC, tmp_path) == indices


@pytest.mark.parametrize("names", [["cat", "dog", "shirt"], ["1", "2", "3"], ["dog", "Dog", "tabby cat"]])
def test_classes_that_cannot_be_told_are_refused(names, tmp_path):
    with pytest.raises(UserError, match=r"neither by name nor by number the 3 classes of pets.*rename them to 00_a"):
        match_classes(names, SPEC, tmp_path)


def absent(path):
    folders(path, SPEC.class_ids)
    for file in (path / "01_b").iterdir():
        file.unlink()
    (path / "01_b").rmdir()


BROKEN = {
    "nothing": (lambda path: path.mkdir(), "holds no set of images; give"),
    "no class": (absent, "has no image of dog"),
    "another size": (lambda path: _save(path, torch.zeros(6, 3, 9, 9), LABELS), r"are \(3, 9, 9\), those of pets"),
    "labels beyond": (lambda path: _save(path, PIXELS, LABELS + 1), r"\(1 to 3\) are no classes of pets"),
    "halves": (lambda path: _save(path, PIXELS, LABELS + 0.5), "not whole numbers"),
    "no labels": (lambda path: _save(path, PIXELS, torch.zeros(5)), "1 tensors of images and 0 of labels"),
    "diverged": (lambda path: _save(path, PIXELS * torch.nan, LABELS), "no finite numbers"),
    "code": (lambda path: _save(path, PIXELS, print), "nothing in it was run"),
    "cut short": (lambda path: _cut(path), "cannot be read"),
    "unlabelled": (lambda path: _unlabelled(path, -1), r"\(-1 to 2\) are no classes of pets"),
    "null": (lambda path: _unlabelled(path, None), r"\(-1 to 2\) are no classes of pets"),
}


def _save(path, *content):
    path.mkdir()
    torch.save(content, path / "set.pt")


def _unlabelled(path, label):
    path.mkdir()
    rows = table().to_dict() | {"class_id": [label, *LABELS.tolist()[1:]]}
    datasets.Dataset.from_dict(rows, features=table().features).to_parquet(str(path / "train.parquet"))


def _cut(path):
    parquet(path)
    file = path / "data" / "train-0.parquet"
    file.write_bytes(file.read_bytes()[:-50])


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_damaged_or_does_not_fit_is_refused(what, tmp_path):
    make, sentence = BROKEN[what]
    make(tmp_path / "set")
    with pytest.raises(UserError, match=sentence):
        read_foreign(tmp_path / "set", SPEC)


class Pets:
    spec = SPEC


def method(path, ipc=1, tiles=1):
    return Foreign(ipc=ipc, path=str(path), tiles=tiles)


def test_the_first_images_of_each_class_are_taken_and_more_than_there_are_refused(tmp_path):
    two_files(tmp_path / "set")
    made = method(tmp_path / "set").synthesize(Pets(), None)
    assert torch.equal(made.images, PIXELS[[1, 2, 0]])
    assert made.labels.tolist() == [0, 1, 2]
    assert made.facts["notes"] == ["Pixels lie in [0, 1] and are rounded to 8 bits."]
    with pytest.raises(UserError, match=r"synthesis\.ipc=2"):
        method(tmp_path / "set", ipc=3).check_data(SPEC)


def test_the_fingerprint_is_the_content_wherever_it_lies(tmp_path):
    two_files(tmp_path / "set")
    before = method(tmp_path / "set").content()
    (tmp_path / "set").rename(tmp_path / "moved")
    assert method(tmp_path / "moved").content() == before
    torch.save(LABELS.roll(1), tmp_path / "moved" / "labels_best.pt")
    assert method(tmp_path / "moved").content() != before
