from __future__ import annotations

import pytest
import torch

from teddy.config.errors import UserError
from teddy.data import batches
from teddy.data.images import FileImages, TensorImages


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


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_a_loader_process_cannot_read_is_one_sentence(tmp_path, workers):
    (tmp_path / "a.png").write_text("no image")
    images = FileImages([tmp_path / "a.png"], torch.tensor([0]), channels=3, size=4)
    with pytest.raises(UserError) as caught:
        list(batches.eval_batches(images, workers))
    assert str(caught.value).startswith(f"{tmp_path}/a.png cannot be read as an image (")
    assert "\n" not in str(caught.value)
