"""Pascal VOC from a tree that is written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from teddy.config.errors import UserError
from teddy.detection.objects import objects_of
from teddy.detection.voc import Voc

ANNOTATION = """<annotation><filename>{name}.jpg</filename><size><width>200</width><height>100</height><depth>3</depth></size>
<object><name>dog</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>11</ymin><xmax>100</xmax><ymax>60</ymax></bndbox></object>
<object><name>person</name><difficult>1</difficult>
<bndbox><xmin>101</xmin><ymin>1</ymin><xmax>200</xmax><ymax>100</ymax></bndbox></object></annotation>"""


@pytest.fixture
def root(tmp_path) -> Path:
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    for split, names in {"trainval": ["000005", "000007"], "test": ["000001"]}.items():
        (tmp_path / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            pixels = np.zeros((100, 200, 3), np.uint8)
            pixels[:, :100] = (250, 20, 20)
            Image.fromarray(pixels).save(tmp_path / "JPEGImages" / f"{name}.jpg", quality=95)
            (tmp_path / "Annotations" / f"{name}.xml").write_text(ANNOTATION.format(name=name))
    return tmp_path


def test_images_fit_the_square_and_boxes_go_with_them(root):
    loaded = Voc(str(root), 50).load()
    assert (len(loaded.train), len(loaded.test), len(loaded.class_names)) == (2, 1, 20)
    (image,) = loaded.train.take([1])
    assert image.shape == (3, 50, 50)
    assert (image[:, 25:] == 128).all(), "grey below an image that is twice as wide as high"
    assert (image[0, :24, :24] > 200).all()
    assert (image[0, :24, 26:] < 60).all()
    found = objects_of(loaded.train, 1)
    # Pixels from 1 to 100 of 200 are the left half; all is scaled by a quarter.
    assert found.boxes.tolist() == [[0, 2.5, 25, 15], [25, 0, 50, 25]]
    assert [loaded.class_names[label] for label in found.labels] == ["dog", "person"]
    assert found.difficult.tolist() == [False, True]
    assert found.target(torch.device("cpu"))["labels"].tolist() == [12], (
        "dog, after the background; no difficult person"
    )
    assert found.truth()["iscrowd"].tolist() == [0, 1]


def test_the_fingerprint_follows_the_files(root):
    before = Voc(str(root), 50).fingerprint()
    assert before == Voc(str(root), 50).fingerprint() != Voc(str(root), 60).fingerprint()
    (root / "Annotations" / "000005.xml").write_text(ANNOTATION.format(name="a longer name"))
    assert Voc(str(root), 50).fingerprint() != before


def test_what_is_missing_is_named(root):
    with pytest.raises(UserError, match=r"dataset\.root is not set"):
        Voc(None, 50)
    (root / "JPEGImages" / "000007.jpg").unlink()
    with pytest.raises(UserError, match=r"000007\.jpg is missing, though trainval\.txt names it"):
        Voc(str(root), 50).load()
    (root / "ImageSets" / "Main" / "test.txt").unlink()
    with pytest.raises(UserError, match=r"has no ImageSets/Main/test\.txt; unpack VOCtrainval"):
        Voc(str(root), 50).check()


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><annotation>&c;</annotation>'


@pytest.mark.parametrize(
    "text",
    [BOMB, ANNOTATION[:200], ANNOTATION.replace("dog", "dragon"), ANNOTATION.replace("<xmax>100", "<xmax>"), "\x00"],
)
def test_a_damaged_annotation_is_refused(root, text):
    (root / "Annotations" / "000005.xml").write_text(text)
    with pytest.raises(UserError, match=r"000005\.xml is no annotation of Pascal VOC \(.+\); unpack it again"):
        Voc(str(root), 50).load()
