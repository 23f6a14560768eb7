from __future__ import annotations

import torch

from teddy.data import batches
from teddy.data.images import TensorImages


def test_images_come_class_by_class_in_batches_of_their_own(monkeypatch):
    monkeypatch.setattr(batches, "EVAL_BATCH", 3)
    pixels = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1)
    images = TensorImages(pixels, torch.tensor([2, 0, 1] * 4))
    members = [torch.tensor([10, 1]), torch.tensor([2, 5, 8, 11]), torch.tensor([0])]
    found = [
        (label, [part.flatten().tolist() for part, *_ in own])
        for label, own in batches.class_batches(images, members, 0)
    ]
    assert found == [(0, [[10, 1]]), (1, [[2, 5, 8], [11]]), (2, [[0]])]
