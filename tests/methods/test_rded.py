"""RDED against a loop over images and crops with torchvision's crop."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms.functional import resized_crop

from teddy.config.errors import UserError
from teddy.data.geometry import CROP_DRAWS, crop_boxes
from teddy.data.tiles import encode_tiles
from teddy.methods.rded import RDED
from teddy.runtime import seeding
from tests.methods.test_run import inputs, run_in  # noqa: F401 - a fixture


@pytest.fixture
def method() -> RDED:
    return RDED(ipc=2, candidates=12, crops=3, min_scale=0.3, tiles=2)


def slow_rded(method: RDED, inputs, label: int) -> torch.Tensor:  # noqa: F811
    """The patches of a class from the best to the worst, normalised."""
    networks = [inputs.pool.load(index) for index in range(4)]
    patches = []
    for i in range(label, 60, 3):
        pixels = (inputs.train.images[i].float() / 255 - 0.4) / 0.3
        found = []
        for crop in range(method.crops):
            uniforms = seeding.uniform(3, "patches", crop, samples=torch.tensor([i]).numpy(), draws=CROP_DRAWS)
            box = crop_boxes(uniforms, 8, 8, method.min_scale)[0].tolist()
            view = resized_crop(pixels, *box, size=[8, 8], antialias=False)
            losses = [F.cross_entropy(net(view[None]), torch.tensor([label])).item() for net in networks]
            found.append((sum(losses) / 4, view))
        patches.append(min(found, key=lambda one: one[0]))
    return torch.stack([view for _, view in sorted(patches, key=lambda one: one[0])])


def test_images_are_made_of_the_easiest_patches(method, inputs, tmp_path):  # noqa: F811
    every = RDED(**{**vars(method), "candidates": 20})
    made = every.synthesize(inputs, run_in(tmp_path / "run"))
    assert (made.labels.tolist(), made.tiles) == ([0, 0, 1, 1, 2, 2], 1)
    for label in range(3):
        patches = inputs.spec.denormalise(slow_rded(every, inputs, label)[:8])
        expected = encode_tiles(patches[[0, 2, 4, 6, 1, 3, 5, 7]], 2)
        difference = (made.images[made.labels == label].int() - expected.int()).abs()
        assert difference.max() <= 1, "rounding"


def test_candidates_are_random_images_and_batches_do_not_matter(method, inputs, tmp_path, monkeypatch):  # noqa: F811
    first = method.synthesize(inputs, run_in(tmp_path / "one")).images
    monkeypatch.setattr("teddy.data.batches.EVAL_BATCH", 5)
    again = method.synthesize(inputs, run_in(tmp_path / "two")).images
    assert (first.int() - again.int()).abs().max() <= 1
    every = RDED(**{**vars(method), "candidates": 20}).synthesize(inputs, run_in(tmp_path / "all")).images
    assert not torch.equal(first, every)


def test_a_class_with_too_few_images_starts_over(inputs, tmp_path):  # noqa: F811
    method = RDED(ipc=6, candidates=300, crops=1, min_scale=1.0, tiles=2)
    assert method.synthesize(inputs, run_in(tmp_path / "run")).images.shape == (18, 1, 8, 8)


def test_too_few_candidates_are_refused(method):
    method.check(4)
    with pytest.raises(UserError, match=r"methods\.rded\.candidates=12 are fewer than the 16 tiles of a class; set"):
        RDED(**{**vars(method), "ipc": 4}).check(4)
