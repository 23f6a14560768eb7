"""DSA views with CutMix: what is pasted where, and the share that the labels follow."""

from __future__ import annotations

import pytest
import torch

from teddy.data.spec import DatasetSpec
from teddy.evaluation import dsa_views
from teddy.evaluation.dsa_views import DsaViews

SPEC = DatasetSpec("toy", 2, 1, 8, (0.5,), (0.25,), ("a", "b"), ("a", "b"))


def test_cutmix_pastes_partners_and_says_how_much_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dsa_views, "dsa", lambda images, *keys, strategy: images)
    images = (torch.arange(6, dtype=torch.uint8) * 40).view(6, 1, 1, 1).expand(6, 1, 8, 8)
    make, indices = DsaViews(images, SPEC, 0, "dsa_strong", mix_share=0.5), torch.tensor([4, 1, 3, 0])
    plain = SPEC.normalise(images[indices])
    mixed = 0
    for epoch in range(60):
        views = make(epoch, indices)
        assert set(views.partner.tolist()) == set(indices.tolist()), "a batch is mixed with itself"
        partners = SPEC.normalise(images[views.partner])
        own = (views.images == plain).float().mean((1, 2, 3))
        assert ((views.images == plain) | (views.images == partners)).all()
        same = views.partner == indices
        torch.testing.assert_close(own[~same], views.keep[~same])
        mixed += bool((views.partner != indices).any())
    assert 15 <= mixed <= 45, "about every second batch"


def test_no_batch_is_mixed_by_default() -> None:
    images = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8)
    for epoch in range(20):
        views = DsaViews(images, SPEC, 0, "dsa")(epoch, torch.arange(6))
        assert torch.equal(views.partner, torch.arange(6))
        assert (views.keep == 1).all()
