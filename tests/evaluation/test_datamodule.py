"""Order, shares and content of a student's batches."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from teddy.data.batches import EpochOrder
from teddy.data.images import TensorImages
from teddy.data.spec import DatasetSpec
from teddy.evaluation.datamodule import DistilledViews
from teddy.evaluation.dsa_views import DsaViews
from teddy.labels.sources import HardLabels, OnlineLabels
from teddy.labels.views import ViewMaker, ViewRecipe
from teddy.runtime.seeding import permutation

SPEC = DatasetSpec("blobs", 3, 1, 8, (0.5,), (0.25,), ("a", "b", "c"), ("0", "1", "2"))
CPU = torch.device("cpu")


@pytest.fixture
def images(blobs: Callable[..., TensorImages]) -> TensorImages:
    return blobs(21, seed=1)


def data(images: TensorImages, seed: int = 4, first_epoch: int = 0, rank: int = 0, world: int = 1) -> DistilledViews:
    views = ViewMaker(images.images, SPEC, ViewRecipe(), 9)
    module = DistilledViews(views, HardLabels(images.labels, 3), 8, seed, SPEC, lambda: images, first_epoch)
    module.trainer = SimpleNamespace(global_rank=rank, world_size=world, training=True)  # type: ignore[assignment]
    return module


def order(module: DistilledViews, epoch: int = 0) -> list[list[int]]:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)  # as the Trainer does
    return [indices.tolist() for _, indices in loader]


def test_seed_and_epoch_order_the_images(images: TensorImages) -> None:
    for seed in (4, 5):
        for epoch in (0, 3):
            expected = torch.from_numpy(permutation(21, seed, "student order", epoch)).split(8)
            assert order(data(images, seed), epoch) == [indices.tolist() for indices in expected]
    assert order(data(images, first_epoch=3)) == order(data(images), 3)
    assert order(data(images), 3) != order(data(images), 0)


@pytest.mark.parametrize(
    ("num_images", "batch", "expected"), [(10, 5, 2), (10, 4, 3), (9, 4, 2), (3, 8, 1), (2, 2, 1), (8, 8, 1)]
)
def test_a_last_batch_of_one_image_is_dropped(num_images: int, batch: int, expected: int) -> None:
    batches = list(EpochOrder(np.arange(num_images), batch, seed=0, purpose="student order"))
    sizes = [len(part) for part in torch.arange(num_images).split(batch)]
    assert [len(indices) for _, indices in batches] == [size for size in sizes if size > 1]
    assert len(EpochOrder(np.arange(num_images), batch, seed=0, purpose="student order")) == expected


def test_processes_share_each_batch_equally(images: TensorImages) -> None:
    whole = order(data(images), 2)
    shares = [order(data(images, rank=rank, world=2), 2) for rank in (0, 1)]
    for batch, first, second in zip(whole, *shares, strict=True):
        assert first == batch[: len(first) * 2 : 2]
        assert second == batch[1 : len(second) * 2 : 2]
        assert len(first) == len(second) == len(batch) // 2


def test_a_training_batch_is_views_and_targets(images: TensorImages) -> None:
    module, indices = data(images), torch.tensor([20, 3, 3])
    key = module.transfer_batch_to_device((5, indices), CPU, 0)
    found = module.on_after_batch_transfer(key, 0)
    views = ViewMaker(images.images, SPEC, ViewRecipe(), 9)(5, indices)
    assert torch.equal(found[0], views.images)
    assert torch.equal(found[1], HardLabels(images.labels, 3).targets(indices, views))


def test_teachers_label_each_view_once_in_an_epoch(images: TensorImages) -> None:
    module, labelled = data(images), []

    def labeller(views: torch.Tensor) -> torch.Tensor:
        labelled.append(views)
        return views.flatten(1)[:, :3]

    module.views.source = OnlineLabels(labeller, 4.0, batch_size=5)
    for epoch in (0, 1):
        for indices in torch.arange(21).split(8):
            views, targets = module.on_after_batch_transfer((epoch, indices), 0)
            assert torch.equal(targets, views.flatten(1)[:, :3])
    assert [len(views) for views in labelled] == [5, 5, 5, 5, 1] * 2


def test_test_images_come_in_their_order_once(images: TensorImages) -> None:
    module = data(images)
    module.trainer.training = False  # type: ignore[union-attr,misc]
    batches = [
        module.on_after_batch_transfer(module.transfer_batch_to_device(batch, CPU, 0), 0)
        for batch in module.test_dataloader()
    ]
    assert torch.equal(torch.cat([inputs for inputs, _ in batches]), SPEC.normalise(images.images))
    assert torch.equal(torch.cat([labels for _, labels in batches]), images.labels)


def test_dsa_views_keep_their_own_labels(images: TensorImages) -> None:
    views, indices = DsaViews(images.images, SPEC, seed=0, strategy="dsa"), torch.tensor([3, 0, 20])
    batch = views(5, indices)
    assert torch.equal(batch.partner, indices)
    assert torch.equal(batch.keep, torch.ones(3))
    assert batch.images.shape == (3, 1, 8, 8)
    assert torch.equal(batch.images, views(5, indices).images)
    assert any(not torch.equal(views(epoch, indices).images, batch.images) for epoch in (6, 7))
