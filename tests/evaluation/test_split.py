"""The evaluation split: the test set, or exactly the training images that no teacher saw."""

from __future__ import annotations

import numpy as np
import torch

from teddy.data.datamodule import stratified_split
from teddy.data.dataset import RealDataset
from teddy.data.images import TensorImages
from teddy.data.sources.base import Loaded
from teddy.evaluation.split import open_split


class Source:
    def fingerprint(self) -> str:
        return "numbered"

    def load(self) -> Loaded:
        def numbered(count: int, first: int) -> TensorImages:
            pixels = torch.arange(first, first + count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
            return TensorImages(pixels.contiguous(), torch.arange(count) % 3)

        return Loaded(numbered(60, 0), numbered(9, 100), ("a", "b", "c"), ("0", "1", "2"), channels=1, size=8)


def data(**facts: object) -> RealDataset:
    return RealDataset("numbered", Source(), mean=[0.5], std=[0.25], **facts)


def seen(images: TensorImages) -> set[int]:
    return set(images.take(np.arange(len(images)))[:, 0, 0, 0].tolist())


def test_held_out_images_are_those_that_training_leaves_out():
    held = open_split("heldout", data(), 0.2, seed=3).images()
    kept, left_out = stratified_split(data().train.labels, 0.2, 3)
    assert seen(held) == set(left_out.tolist())
    assert seen(held) | set(kept.tolist()) == set(range(60))
    assert held.labels.bincount().tolist() == [4, 4, 4]


def test_the_splits_differ_in_name_identity_and_images():
    test, heldout = (open_split(split, data(), 0.2, 3) for split in ("test", "heldout"))
    assert seen(test.images()) == set(range(100, 109))
    assert not seen(test.images()) & seen(heldout.images())
    assert (test.name, heldout.name) == ("", "heldout")
    assert test.identity == {"test": data().fingerprint}
    assert heldout.identity != open_split("heldout", data(), 0.2, 4).identity
    assert heldout.identity != open_split("heldout", data(), 0.1, 3).identity


def test_fewer_images_per_class_are_another_dataset_with_the_same_test_set():
    whole, some = data(), data(per_class=5)
    assert some.train.labels.bincount().tolist() == [5, 5, 5]
    assert seen(some.train) < seen(whole.train)
    assert seen(data(per_class=3).train) < seen(some.train)  # nested, so that a study of sizes compares like with like
    assert seen(some.test) == seen(whole.test)
    assert len({whole.fingerprint, some.fingerprint, data(per_class=3).fingerprint}) == 3
    assert seen(data(per_class=1000).train) == seen(whole.train)
