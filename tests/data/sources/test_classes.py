"""Some classes of a dataset against picking their images one by one."""

from __future__ import annotations

import torch

from teddy.data.dataset import RealDataset
from teddy.data.images import Subset
from teddy.data.sources.classes import dataset_of_classes, of_classes
from tests.synthesis.conftest import ToySource


def test_it_has_the_images_of_its_classes_numbered_anew_and_the_normalisation_of_the_whole():
    whole = RealDataset("toy", ToySource(), num_classes=3, class_names=["x", "y", "z"])
    some = dataset_of_classes(whole, [0, 2])
    assert some.spec.class_names == ("x", "z")
    assert some.spec.class_ids == ("0_a", "2_c")
    assert (some.spec.num_classes, some.spec.mean, some.spec.std) == (2, whole.spec.mean, whole.spec.std)
    for images, every in ((some.train, whole.train), (some.test, whole.test)):
        chosen = [i for i in range(60) if int(every.labels[i]) != 1]
        assert torch.equal(images.take(range(len(images))), every.take(chosen))
        assert images.labels.tolist() == [int(every.labels[i]) // 2 for i in chosen]
    assert len({some.fingerprint, whole.fingerprint, dataset_of_classes(whole, [0, 1]).fingerprint}) == 3


def test_images_that_are_read_on_demand_keep_their_order():
    whole = RealDataset("toy", ToySource()).train
    lazy = of_classes(Subset(whole, range(60)), [1, 2])
    assert torch.equal(lazy.take([0, 1, 2]), whole.take([1, 2, 4]))
    assert lazy.labels[:3].tolist() == [0, 1, 0]
    assert whole.labels[:3].tolist() == [0, 1, 2]
