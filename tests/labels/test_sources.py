"""The three sources of targets behind one interface."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from teddy.data.spec import DatasetSpec
from teddy.labels.compression import AllLogits, Compression, TopK
from teddy.labels.ensemble import PoolLabeller
from teddy.labels.sources import FixedLabels, HardLabels, LabelSource, OnlineLabels, soft_label_kl
from teddy.labels.store import StoredLabels, write_stored_labels
from teddy.labels.views import ViewMaker, ViewRecipe, Views

SPEC = DatasetSpec("toy", 4, 3, 8, (0.5,) * 3, (0.25,) * 3, ("a", "b", "c", "d"), ("0", "1", "2", "3"))
IMAGES = torch.randint(0, 256, (10, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0, 1])


def views(mix: str = "cutmix") -> ViewMaker:
    return ViewMaker(IMAGES, SPEC, ViewRecipe(mix=mix), 0)


def pool() -> PoolLabeller:
    torch.manual_seed(0)
    return PoolLabeller([nn.Sequential(nn.Flatten(), nn.Linear(192, 4)) for _ in range(2)])


@pytest.fixture
def stored(tmp_path: Path) -> StoredLabels:
    return store(tmp_path, AllLogits(4))


def store(folder: Path, compression: Compression) -> StoredLabels:
    write_stored_labels(folder, views(), pool(), epochs=3, compression=compression, batch_size=4)
    return StoredLabels(folder / "labels.safetensors", (3, 10), compression, temperature=20.0)


def test_stored_and_online_agree_and_the_epochs_come_round(stored: StoredLabels) -> None:
    online, maker, indices = OnlineLabels(pool(), 20.0), views(), torch.tensor([7, 0, 3])
    for epoch in (0, 2, 3, 7):
        seen = stored.view_epoch(epoch)
        assert seen == epoch % 3
        batch = maker(seen, indices)
        stored.begin_epoch(seen, maker)
        online.begin_epoch(seen, maker)
        targets = stored.targets(indices, batch)
        assert targets.dtype == torch.float32
        torch.testing.assert_close(targets, online.targets(indices, batch), atol=2e-3, rtol=2e-3)
    assert online.view_epoch(7) == 7


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_part_of_the_logits_is_the_packed_answer_of_the_teachers(tmp_path: Path, k: int) -> None:
    compression = TopK(4, k, 20.0)
    stored, online, indices = store(tmp_path, compression), OnlineLabels(pool(), 20.0), torch.tensor([7, 0, 3])
    for epoch in (0, 2, 5):
        seen = stored.view_epoch(epoch)
        batch = views()(seen, indices)
        stored.begin_epoch(seen, views())
        online.begin_epoch(seen, views())
        targets = stored.targets(indices, batch)
        assert targets.dtype == torch.float32
        expected = compression.unpack(compression.pack(online.targets(indices, batch)), torch.device("cpu"))
        torch.testing.assert_close(targets, expected, atol=2e-3, rtol=2e-3)


def test_online_labels_are_what_the_teachers_say_about_each_view_in_fixed_chunks() -> None:
    sizes: list[int] = []
    labeller, maker = pool(), views()

    def watched(images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return labeller(images)

    online = OnlineLabels(watched, 20.0, batch_size=4)
    online.begin_epoch(5, maker)
    expected = torch.cat([labeller(maker(5, torch.tensor([index])).images) for index in range(10)])
    order = torch.tensor([9, 2, 2, 5])
    batch = maker(5, order)
    torch.testing.assert_close(online.targets(order, batch), expected[order])
    first = online.targets(torch.arange(10), maker(5, torch.arange(10)))
    assert torch.equal(online.targets(order, batch), first[order]), "the same bits in every batch"
    assert sizes == [4, 4, 2]
    online.begin_epoch(6, maker)
    assert not torch.equal(online.targets(torch.arange(10), batch), first)


def test_soft_loss_is_the_kl(stored: StoredLabels) -> None:
    student, targets = torch.randn(3, 4), torch.randn(3, 4)
    for source in (stored, OnlineLabels(pool(), 20.0)):
        assert torch.equal(source.loss(student, targets), soft_label_kl(student, targets, 20.0))


def test_hard_targets_follow_the_mix() -> None:
    batch = Views(torch.zeros(3, 3, 8, 8), partner=torch.tensor([1, 4, 2]), keep=torch.tensor([0.25, 0.5, 1.0]))
    targets = HardLabels(CLASSES, 4).targets(torch.tensor([0, 0, 3]), batch)
    expected = torch.tensor([[0.25, 0.75, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    torch.testing.assert_close(targets, expected)
    plain = views("none")(0, torch.arange(10))
    assert torch.equal(HardLabels(CLASSES, 4).targets(torch.arange(10), plain).argmax(1), CLASSES)


def test_one_training_step_serves_every_source(stored: StoredLabels) -> None:
    maker, indices = views(), torch.tensor([1, 2, 9])
    sources: list[LabelSource] = [stored, OnlineLabels(pool(), 20.0), HardLabels(CLASSES, 4)]
    for source in sources:
        student = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
        epoch = source.view_epoch(5)
        source.begin_epoch(epoch, maker)
        batch = maker(epoch, indices)
        loss = source.loss(student(batch.images), source.targets(indices, batch))
        loss.backward()
        assert loss.item() > 0
        assert student[1].weight.grad.abs().sum() > 0


def test_a_fixed_label_is_that_of_the_image_and_is_mixed_as_its_views() -> None:
    source, maker, indices = FixedLabels(pool(), temperature=4.0, batch_size=3), views(), torch.tensor([7, 0, 3])
    normalised = (IMAGES.double() / 255 - 0.5) / 0.25
    logits = sum(teacher.double()(normalised) for teacher in pool().teachers) / 2
    labels = torch.softmax(logits / 4, dim=1)
    for epoch in (0, 5):
        source.begin_epoch(epoch, maker)
        batch = maker(epoch, indices)
        rows = []
        for row, index in enumerate(indices.tolist()):
            keep = float(batch.keep[row])
            rows.append(keep * labels[index] + (1 - keep) * labels[int(batch.partner[row])])
        targets = source.targets(indices, batch)
        torch.testing.assert_close(targets.double(), torch.stack(rows), atol=1e-3, rtol=1e-3)
    predicted = torch.randn(3, 4, dtype=torch.float64)
    target, student = targets.double(), torch.log_softmax(predicted / 4, 1)
    expected = (target * (target.log() - student)).sum() / 3
    assert source.loss(predicted, targets).item() == pytest.approx(expected.item(), rel=1e-4)
