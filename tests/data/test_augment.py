from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as tvf

from teddy.data import geometry
from teddy.data.augment import Augmentation
from teddy.data.images import FileImages
from teddy.runtime.seeding import uniform


def pixels(n: int = 40, channels: int = 3, size: int = 9) -> torch.Tensor:
    return torch.randint(1, 256, (n, channels, size, size), generator=torch.Generator().manual_seed(0)).byte()


def windows(image: torch.Tensor, padding: int) -> list[torch.Tensor]:
    """All results that torchvision's RandomCrop(size, padding) can have."""
    size = image.shape[-1]
    padded = tvf.pad(image, [padding] * 4)
    places = range(2 * padding + 1)
    return [tvf.crop(padded, top, left, size, size) for top in places for left in places]


def test_padded_crop_and_flip_give_what_torchvision_can_give():
    images = pixels()
    out = Augmentation("padded", padding=2, flip=True).apply(images, torch.arange(40), 0, 0, cropped=False)
    chosen, flipped = set(), 0
    for image, result in zip(images, out, strict=True):
        candidates = windows(image, 2)
        plain = [i for i, w in enumerate(candidates) if torch.equal(w, result)]
        mirrored = [i for i, w in enumerate(candidates) if torch.equal(w.flip(-1), result)]
        assert len(plain) + len(mirrored) == 1
        chosen.update(plain + mirrored)
        flipped += len(mirrored)
    assert len(chosen) > 15  # of 25 windows
    assert 8 <= flipped <= 32


def test_every_window_and_each_side_is_equally_likely():
    n = 5000
    # The column number is the pixel's value, so a result tells its own window and side.
    images = torch.arange(1, 8).byte().expand(n, 1, 7, 7)
    augmentation = Augmentation("padded", padding=1, flip=True)
    rows = augmentation.apply(images, torch.arange(n), 3, 0, cropped=False)[:, 0, 3]
    flipped = rows[:, 2] > rows[:, 4]
    assert abs(flipped.float().mean() - 0.5) < 0.03
    centre = rows[:, 3].long() - 4
    for shift in (-1, 0, 1):
        assert abs((centre == shift).float().mean() - 1 / 3) < 0.03


def test_resized_crop_of_memory_is_torchvisions():
    images = pixels(10, size=16)
    out = Augmentation("resized", min_scale=0.2).apply(images, torch.arange(10), 1, 4, cropped=False)
    draws = uniform(1, "augment", 4, samples=np.arange(10), draws=geometry.CROP_DRAWS)
    for image, box, result in zip(images, geometry.crop_boxes(draws, 16, 16, 0.2).tolist(), out, strict=True):
        expected = tvf.resized_crop(image.float(), *box, [16, 16], antialias=False)
        torch.testing.assert_close(result, expected, atol=1e-2, rtol=0)


def test_resized_crop_of_files_sees_the_whole_image(tmp_path, write_image):
    write_image(tmp_path / "a.png", width=60, height=30)
    files = FileImages([tmp_path / "a.png"], torch.tensor([0]), channels=3, size=8, resize=10)
    augmentation = Augmentation("resized", min_scale=0.08)
    image, boxes = Image.open(tmp_path / "a.png"), []
    for epoch in range(20):
        draws = uniform(1, "augment", epoch, samples=np.arange(1), draws=geometry.CROP_DRAWS)
        box = geometry.crop_boxes(draws, 30, 60, 0.08)[0].tolist()
        expected = tvf.pil_to_tensor(tvf.resized_crop(image, *box, [8, 8]))
        assert torch.equal(augmentation.crop_decoded(files, torch.tensor([0]), 1, epoch)[0], expected)
        boxes.append(box)
    assert min(left for _, left, _, _ in boxes) < 15  # the centre square begins there
    assert max(left + width for _, left, _, width in boxes) > 45


@pytest.mark.parametrize("crop", ["padded", "resized", "none"])
def test_an_image_is_augmented_the_same_in_every_batch(crop):
    images, indices = pixels(12), torch.arange(100, 112)
    augmentation = Augmentation(crop, padding=2, min_scale=0.1, flip=True)
    whole = augmentation.apply(images, indices, 0, 5, cropped=False)
    parts = [augmentation.apply(images[p], indices[p], 0, 5, cropped=False) for p in ([7, 2], [0])]
    torch.testing.assert_close(torch.cat(parts), whole[[7, 2, 0]])
    assert not torch.equal(augmentation.apply(images, indices, 0, 6, cropped=False), whole)
    assert not torch.equal(augmentation.apply(images, indices, 1, 5, cropped=False), whole)


def test_nothing_is_nothing():
    assert torch.equal(Augmentation().apply(pixels(), torch.arange(40), 0, 0, cropped=False), pixels())
