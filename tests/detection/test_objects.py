"""Boxes that are mirrored, and the file that others read."""

from __future__ import annotations

import pytest
import torch

from teddy.config.errors import UserError
from teddy.data.images import TensorImages
from teddy.detection.objects import Objects, objects_of, read_coco, write_coco

TWO = Objects(torch.tensor([[2.0, 3, 10, 5], [0.5, 0, 20, 20]]), torch.tensor([1, 0]))
NONE = Objects(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def test_a_mirrored_box_holds_the_mirrored_pixels():
    image = torch.zeros(20, 20)
    image[3:5, 2:10] = 1
    left, top, right, bottom = TWO.mirrored(20).boxes[0].int().tolist()
    assert image.flip(-1)[top:bottom, left:right].sum() == image.sum() == (bottom - top) * (right - left)


def test_a_coco_file_gives_back_what_was_written(tmp_path):
    write_coco(tmp_path / "a.json", [TWO, NONE, TWO], ["0.png", "1.png", "2.png"], 20, ["cat", "dog", "cow"])
    objects, classes = read_coco(tmp_path / "a.json")
    assert classes == 3
    for mine, written in zip(objects, [TWO, NONE, TWO], strict=True):
        assert torch.equal(mine.boxes, written.boxes)
        assert torch.equal(mine.labels, written.labels)


def test_cocos_own_reader_reads_it(tmp_path, capsys):
    coco = pytest.importorskip("pycocotools.coco")
    write_coco(tmp_path / "a.json", [TWO, NONE], ["scenes/0.png", "scenes/1.png"], 20, ["cat", "dog"])
    theirs = coco.COCO(str(tmp_path / "a.json"))
    first, second = theirs.loadImgs([0, 1])
    assert (first["file_name"], first["width"]) == ("scenes/0.png", 20)
    found = theirs.loadAnns(theirs.getAnnIds(imgIds=[0]))
    assert [(theirs.cats[one["category_id"]]["name"], one["bbox"]) for one in found] == [
        ("dog", [2, 3, 8, 2]),
        ("cat", [0.5, 0, 19.5, 20]),
    ]
    assert theirs.getAnnIds(imgIds=[second["id"]]) == []


def test_images_without_boxes_are_refused():
    with pytest.raises(UserError, match="choose dataset=voc or dataset=shapes"):
        objects_of(TensorImages(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.zeros(1)), 0)
