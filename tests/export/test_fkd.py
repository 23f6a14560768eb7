"""A set for the validation scripts of SRe2L and RDED, read by a loader that was written from the description of their format."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import functional as F

from teddy.export.__main__ import main


def replay(folder: Path, epochs: int, batch_size: int):
    """Read every batch of every epoch as training does: the mixed views in [0, 1], float32, and their logits.

    The images come in the order of one RandomSampler of seed 42; Pillow cuts the shares of the sides out and scales them;
    then the mirror images, then the box of the permuted batch.
    """
    images = ImageFolder(str(folder / "images"))
    names = sorted(path.name for path in (folder / "labels").iterdir())
    assert names == sorted(f"epoch_{epoch}" for epoch in range(epochs)), "the number of folders is the number of epochs"
    order = torch.utils.data.RandomSampler(images, generator=torch.Generator().manual_seed(42))
    for epoch in range(epochs):
        batches = torch.utils.data.BatchSampler(order, batch_size, drop_last=False)
        for number, indices in enumerate(batches):
            path = folder / "labels" / f"epoch_{epoch}" / f"batch_{number}.tar"
            coords, flips, partner, ratio, box, logits = torch.load(path, weights_only=True)
            assert coords.dtype == torch.float32
            assert coords.shape == (len(indices), 4)
            assert flips.shape == partner.shape == (len(indices),)
            assert sorted(partner.tolist()) == list(range(len(indices)))
            assert 0 <= ratio <= 1
            views = []
            for row, index in enumerate(indices):
                image = images[index][0]
                top, left, height, width = (
                    share.item() * side for share, side in zip(coords[row], image.size[::-1] * 2, strict=True)
                )
                view = F.resized_crop(image, top, left, height, width, [16, 16], F.InterpolationMode.BILINEAR)
                views.append(F.to_tensor(F.hflip(view) if flips[row] else view))
            batch = torch.stack(views)
            first, last = box[0], box[2]
            batch[:, :, first:last, box[1] : box[3]] = batch[partner][:, :, first:last, box[1] : box[3]]
            yield [images.samples[index] for index in indices], batch, logits, (ratio, box)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_labels_are_the_teachers_answers_to_the_views_that_their_loader_makes(make_set, logits, channels, tmp_path):
    opened = make_set("online", channels=channels)
    assert (
        main([str(opened.path), "--to", "sre2l", "--out", str(tmp_path / "out"), "--epochs=3", "--batch-size=5"]) == 0
    )
    seen, boxes = [], set()
    for samples, views, stored, (ratio, box) in replay(tmp_path / "out", 3, 5):
        assert stored.dtype == torch.float16
        # their loader gives three equal channels of a grey image
        wanted = logits(opened, (views[:, :channels] - 0.4) / 0.3)
        assert torch.allclose(stored.float(), wanted, rtol=2e-3, atol=2e-3)
        shifted = logits(opened, (views[:, :channels].roll(1, 3) - 0.4) / 0.3)
        assert not torch.allclose(stored.float(), shifted, rtol=2e-3, atol=2e-3), "a pixel makes a difference"
        seen += [Path(path).relative_to(tmp_path / "out" / "images").as_posix() for path, _ in samples]
        boxes.add(tuple(box))
        half = int(16 * (1 - ratio) ** 0.5) // 2
        assert all(box[end] - box[start] <= 2 * half for start, end in ((0, 2), (1, 3)))
    assert len(seen) == 36
    assert all(len(set(seen[epoch * 12 : epoch * 12 + 12])) == 12 for epoch in range(3))
    assert len(boxes) > 5, "every batch has its own"


def test_their_count_of_the_files_agrees(make_set, tmp_path, capsys):
    """The loader counts epochs and images, and refuses another batch size than the first file's."""
    opened = make_set("fixed")
    assert main([str(opened.path), "--to", "sre2l", "--out", str(tmp_path / "out"), "--epochs=2"]) == 0
    (only,) = (tmp_path / "out" / "labels" / "epoch_0").iterdir()
    count = torch.load(only, weights_only=True)[1].size()[0]
    printed = capsys.readouterr().out
    assert count == 12 == int(re.search(r"--batch-size (\d+)", printed)[1])
    assert f"--fkd-path {tmp_path / 'out' / 'labels'}/ " in printed, "they put epoch_0 right behind it"


def test_rdeds_loader_finds_the_class_folders_by_five_digits(make_set, tmp_path):
    opened = make_set("online", tiles=2)
    assert main([str(opened.path), "--to", "sre2l", "--out", str(tmp_path / "out"), "--epochs=1"]) == 0
    for label in range(4):
        files = sorted((tmp_path / "out" / "images" / str(label).zfill(5)).iterdir())
        pixels = torch.stack([torch.from_numpy(np.array(Image.open(file))) for file in files]).permute(0, 3, 1, 2)
        assert torch.equal(pixels, opened.images.images[opened.images.labels == label]), "tiles as networks see them"


def test_a_set_without_teachers_is_refused_and_leaves_nothing(make_set, tmp_path, capsys):
    opened = make_set("stored")
    assert main([str(opened.path), "--to", "sre2l", "--out", str(tmp_path / "out")]) == 2
    assert "labels=online" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
