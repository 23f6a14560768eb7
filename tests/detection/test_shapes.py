"""The made-up set: what is drawn is where its box says."""

from __future__ import annotations

import torch

from teddy.data.images import Subset, subset
from teddy.detection.objects import objects_of
from teddy.detection.shapes import Shapes, scene


def test_a_box_is_filled_by_the_pixels_of_its_colour():
    seen = set()
    for index in range(30):
        image, objects = scene(96, 7, index)
        for box, label in zip(objects.boxes.int().tolist(), objects.labels.tolist(), strict=True):
            left, top, right, bottom = box
            colour = image[:, (top + bottom) // 2, (left + right) // 2]
            everywhere = (image[:, max(0, top - 1) : bottom + 1] == colour[:, None, None]).all(0)
            inside = (image[:, top:bottom, left:right] == colour[:, None, None]).all(0)
            for side in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
                assert side.any()
            assert everywhere.sum() == inside.sum(), "no pixel of the shape is outside"
            share = inside.mean()
            assert {0: 0.70 < share < 0.85, 1: share == 1, 2: 0.45 < share < 0.60}[label]
            seen.add(label)
    assert seen == {0, 1, 2}


def test_images_depend_on_the_seed_alone():
    one, same, other = (Shapes(64, 3, 2, seed) for seed in (0, 0, 1))
    images = [source.load().train.take(range(3)) for source in (one, same, other)]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    loaded = one.load()
    assert not torch.equal(loaded.test.take([0]), images[0][:1])


def test_a_part_of_the_images_keeps_its_objects():
    train = Shapes(64, 4, 1, 0).load().train
    for part in (Subset(train, [3, 1]), subset(train, [3, 1])):
        assert torch.equal(objects_of(part, 0).boxes, objects_of(train, 3).boxes)
