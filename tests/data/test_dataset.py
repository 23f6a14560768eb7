from __future__ import annotations

import dataclasses

import pytest
import torch

from teddy.config.errors import UserError
from teddy.data import dataset as dataset_file
from teddy.data.dataset import RealDataset, measure
from teddy.data.images import Subset, TensorImages
from teddy.data.sources.base import Loaded
from teddy.data.sources.embedded import FashionMini
from teddy.data.sources.folders import ImageFolder


class Counting:
    """A source in memory that counts how often it is opened."""

    def __init__(self, key: str = "abc"):
        self.key, self.opened = key, 0

    def fingerprint(self) -> str:
        return self.key

    def load(self) -> Loaded:
        self.opened += 1
        pixels = torch.randint(0, 256, (30, 3, 6, 6), generator=torch.Generator().manual_seed(0)).byte()
        images = TensorImages(pixels, torch.arange(30) % 2)
        return Loaded(images, images, ("no", "yes"), ("00_no", "01_yes"), 3, 6)


def test_facts_that_are_open_are_read_from_the_data():
    data = RealDataset("made_up", Counting())
    pixels = data.train.images.double() / 255
    assert data.spec.mean == tuple(round(v, 4) for v in pixels.mean((0, 2, 3)).tolist())
    assert data.spec.std == pytest.approx(pixels.transpose(0, 1).flatten(1).std(1, correction=0).tolist(), abs=1e-4)
    assert (data.spec.num_classes, data.spec.channels, data.spec.size) == (2, 3, 6)
    assert data.spec.class_ids == ("00_no", "01_yes")


def test_given_facts_win():
    facts = {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1], "class_names": ["nay", "yea"]}
    spec = RealDataset("made_up", Counting(), **facts).spec
    assert (spec.mean, spec.std, spec.class_names) == ((0.1, 0.2, 0.3), (1, 1, 1), ("nay", "yea"))


def test_the_source_is_opened_once_and_only_when_needed():
    source = Counting()
    data = RealDataset("made_up", source)
    _ = data.fingerprint
    assert source.opened == 0
    _ = data.spec, data.train, data.test
    assert source.opened == 1


def test_fingerprint_changes_with_what_a_network_sees():
    base = RealDataset("a", Counting(), size=6).fingerprint
    assert RealDataset("b", Counting(), size=6, class_names=["x", "y"]).fingerprint == base
    others = [
        RealDataset("a", Counting("other"), size=6),
        RealDataset("a", Counting(), size=7),
        RealDataset("a", Counting(), size=6, resize=8),
        RealDataset("a", Counting(), size=6, mean=[0.1] * 3),
    ]
    assert len({base, *(data.fingerprint for data in others)}) == 5


def test_some_images_of_each_class():
    source = Counting()
    few = RealDataset("made_up", source, per_class=4)
    assert torch.bincount(few.train.labels).tolist() == [4, 4]
    assert len(few.test) == 30
    assert torch.equal(few.train.images, RealDataset("made_up", source, per_class=4).train.images)
    more = RealDataset("made_up", source, per_class=6).train.images.flatten(1).tolist()
    assert all(image in more for image in few.train.images.flatten(1).tolist())
    assert few.fingerprint != RealDataset("made_up", source).fingerprint


def test_unbalanced_subsets_are_datasets_of_their_own_with_the_same_test_images():
    source = Counting()
    subsets = [{"keep": [0.2, 0.6]}, {"keep": [0.2, 0.6], "subset_seed": 1}, {"long_tail": 5.0}, {}]
    made = [RealDataset("made_up", source, **facts) for facts in subsets]
    assert len({one.fingerprint for one in made}) == 4
    whole = made[-1]
    assert whole.chosen is None
    for one in made[:3]:
        counts = torch.bincount(one.train.labels)
        assert counts.max() < len(whole.train) / 2 or one.long_tail
        assert torch.equal(one.train.take(range(len(one.train))), whole.train.take(one.chosen))
        assert len(one.test) == len(whole.test)
    first, last = torch.bincount(made[2].train.labels)[[0, -1]].tolist()
    assert first == round(5 * last) == torch.bincount(whole.train.labels).min()


@pytest.mark.parametrize(
    "facts, sentence",
    [
        ({"num_classes": 3}, r"dataset\.num_classes=3, but the data of made_up have 2"),
        ({"channels": 1}, r"dataset\.channels=1.*have 3"),
        ({"size": 32}, r"dataset\.size=32.*have 6"),
        ({"class_names": ["one"]}, r"dataset\.class_names holds 1 names"),
        ({"mean": [0.5]}, r"dataset\.mean needs one number per channel \(3\)"),
        ({"std": [0.5] * 4}, r"dataset\.std needs one number per channel \(3\)"),
        ({"resize": 8}, r"dataset\.resize has no effect"),
    ],
)
def test_data_and_configuration_must_agree(facts, sentence):
    with pytest.raises(UserError, match=sentence):
        _ = RealDataset("made_up", Counting(), **facts).spec


def test_large_sets_are_measured_on_a_sample(monkeypatch):
    monkeypatch.setattr(dataset_file, "_MEASURED_IMAGES", 10)
    images = TensorImages(torch.arange(100).byte().view(100, 1, 1, 1), torch.zeros(100))
    assert measure(images)[0] == pytest.approx((49.5 / 255,), abs=1e-4)
    taken = []

    class Decoded(Subset):
        def take(self, indices):
            taken.extend(indices)
            return super().take(indices)

    mean, std = measure(Decoded(images, range(100)))
    assert len(set(taken)) == 10
    assert mean == pytest.approx((49.5 / 255,), abs=5e-3)
    assert std == pytest.approx((28.9 / 255,), abs=2e-2)


def test_images_of_one_colour_do_not_divide_by_zero():
    images = TensorImages(torch.full((4, 1, 2, 2), 7).byte(), torch.zeros(4))
    assert measure(images)[1][0] > 0


def test_fashion_mini_has_fashion_mnists_statistics():
    measured = RealDataset("fashion_mini", FashionMini()).spec
    assert measured.mean == pytest.approx((0.2860,), abs=5e-3)
    assert measured.std == pytest.approx((0.3530,), abs=5e-3)


def test_a_folder_is_measured_without_any_fact(tmp_path, write_image):
    for split in ("train", "val"):
        for i, name in enumerate(("ant", "bee")):
            write_image(tmp_path / split / name / "0.png", seed=i)
    spec = RealDataset("own", ImageFolder(str(tmp_path))).spec
    assert spec.class_ids == ("ant", "bee")
    assert all(0.2 < value < 0.8 for value in spec.mean + spec.std)


@pytest.mark.parametrize("name", ["a\nb", "", "x" * 101, "\x1b[31m"])
def test_a_class_name_that_cannot_be_shown_is_refused(name):
    source = Counting()
    loaded = dataclasses.replace(source.load(), class_names=("no", name))
    source.load = lambda: loaded
    with pytest.raises(UserError, match="of made_up cannot be shown; give it a name of 1 to 100 characters"):
        _ = RealDataset("made_up", source).spec
