"""Views: replayable one by one, and right against torchvision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from teddy.data import geometry
from teddy.data.spec import DatasetSpec
from teddy.labels import views
from teddy.labels.views import ViewMaker, ViewRecipe
from teddy.runtime import seeding

SPEC = DatasetSpec("toy", 4, 3, 16, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), ("a", "b", "c", "d"), ("0", "1", "2", "3"))
IMAGES = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
EVERYTHING = torch.arange(40)


def maker(seed: int = 0, **changes: object) -> ViewMaker:
    return ViewMaker(IMAGES, SPEC, replace(ViewRecipe(), **changes), seed)


@pytest.mark.parametrize("mix", ["cutmix", "none"])
def test_a_view_depends_on_its_own_index_only(mix: str) -> None:
    views = maker(mix=mix, alpha=0.8)(3, EVERYTHING)
    again = maker(mix=mix, alpha=0.8)
    again(2, torch.tensor([5, 6]))
    shuffled = torch.randperm(40)[:17]
    part = again(3, shuffled)
    assert torch.equal(part.images, views.images[shuffled])
    assert torch.equal(part.partner, views.partner[shuffled])
    assert torch.equal(part.keep, views.keep[shuffled])
    for i in range(40):
        alone = again(3, torch.tensor([i]))
        assert torch.equal(alone.images[0], views.images[i])
        assert alone.partner[0] == views.partner[i]
        assert alone.keep[0] == views.keep[i]


def test_epochs_and_seeds_differ() -> None:
    first = maker()(0, EVERYTHING)
    for other in (maker()(1, EVERYTHING), maker(seed=1)(0, EVERYTHING)):
        assert not torch.equal(first.images, other.images)
        assert not torch.equal(first.partner, other.partner)


def test_partners_are_a_permutation_of_the_whole_set() -> None:
    views = maker()
    both_halves = torch.cat([views(0, EVERYTHING[:20]).partner, views(0, EVERYTHING[20:]).partner])
    assert both_halves.sort().values.tolist() == list(range(40))
    assert (views(0, EVERYTHING[:20]).partner >= 20).any()


def test_without_mix_a_view_is_torchvisions_crop_and_flip() -> None:
    views = maker(mix="none")(7, EVERYTHING)
    uniforms = seeding.uniform(0, "views", "crop", 7, samples=EVERYTHING.numpy(), draws=geometry.CROP_DRAWS + 1)
    boxes = geometry.crop_boxes(uniforms[:, :-1], 16, 16, 0.08)
    mean, std = torch.tensor(SPEC.mean).view(3, 1, 1), torch.tensor(SPEC.std).view(3, 1, 1)
    flipped = 0
    for image, box, draw, view in zip(IMAGES, boxes, uniforms[:, -1], views.images, strict=True):
        crop = reference.resized_crop(image / 255, *box.tolist(), size=[16, 16], antialias=False)
        crop = reference.horizontal_flip(crop) if draw < 0.5 else crop
        flipped += int(draw < 0.5)
        torch.testing.assert_close(view, (crop - mean) / std, atol=5e-5, rtol=0)
    assert 5 < flipped < 35
    assert views.images.dtype == torch.float32
    assert torch.equal(views.keep, torch.ones(40))
    assert torch.equal(views.partner, EVERYTHING)


def test_cutmix_pastes_the_partners_own_view_and_counts_the_pixels() -> None:
    plain, mixed = maker(mix="none")(1, EVERYTHING), maker()(1, EVERYTHING)
    for i in range(40):
        own = (mixed.images[i] == plain.images[i]).all(0)
        partner = (mixed.images[i] == plain.images[mixed.partner[i]]).all(0)
        assert (own | partner).all()
        if mixed.partner[i] != i:
            assert mixed.keep[i].item() == pytest.approx(own.float().mean().item(), abs=1e-6)
    assert mixed.keep.std() > 0.1


def test_the_recipe_sets_area_and_flips() -> None:
    still = maker(mix="none", min_scale=1.0, flip=0.0)(0, EVERYTHING).images
    close = torch.isclose(still, SPEC.normalise(IMAGES), atol=1e-4).flatten(1).all(1)
    assert close.float().mean() > 0.5  # at full area, an aspect ratio near 1 rounds to the whole image
    turned = maker(mix="none", min_scale=1.0, flip=1.0)(0, EVERYTHING).images
    assert torch.equal(turned, still.flip(-1))


def test_mean_share_of_cutmix_is_plausible() -> None:
    keep = np.concatenate([maker()(epoch, EVERYTHING).keep.numpy() for epoch in range(50)])
    assert 0.5 < keep.mean() < 0.75  # one half without clipping and rounding


@pytest.mark.parametrize("mix", ["cutmix", "none"])
def test_views_from_kept_crops_are_those_from_new_crops(monkeypatch: pytest.MonkeyPatch, mix: str) -> None:
    found = []
    for kept in (views.KEPT_BYTES, 0):
        monkeypatch.setattr(views, "KEPT_BYTES", kept)
        some = maker(mix=mix)
        found.append([some(epoch, torch.tensor([3, 11, 0])) for epoch in (0, 1, 0)])
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.keep, theirs.keep)
