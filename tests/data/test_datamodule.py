from __future__ import annotations

import itertools
from collections.abc import Iterable

import lightning as L
import numpy as np
import pytest
import torch

from teddy.config.errors import UserError
from teddy.data.augment import Augmentation
from teddy.data.batches import EpochOrder, in_order
from teddy.data.datamodule import RealData, stratified_split
from teddy.data.dsa import dsa
from teddy.data.images import FileImages, TensorImages
from teddy.data.spec import DatasetSpec

SPEC = DatasetSpec("made_up", 3, 1, 4, (0.5,), (0.25,), ("a", "b", "c"), ("a", "b", "c"))


def memory(n: int = 60) -> TensorImages:
    images = torch.randint(0, 256, (n, 1, 4, 4), generator=torch.Generator().manual_seed(n)).byte()
    return TensorImages(images, torch.arange(n) % 3)


def real_data(batch_size: int = 8, first_epoch: int = 0, **changes) -> RealData:
    settings = {"augment": Augmentation("padded", 1, 1.0, True), "holdout": 0.2, "seed": 1} | changes
    return RealData(SPEC, memory(60), batch_size=batch_size, first_epoch=first_epoch, **settings)


class Recorder(L.LightningModule):
    """Learns nothing; keeps what arrives."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = {"train": [], "val": []}

    def training_step(self, batch, batch_idx):
        self.seen["train"].append((self.current_epoch, *batch))
        return self.weight * batch[0].mean()

    def validation_step(self, batch, batch_idx):
        self.seen["val"].append((self.current_epoch, *batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def trainer(epochs: int) -> L.Trainer:
    return L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def run(data: RealData, epochs: int) -> Recorder:
    module = Recorder()
    trainer(epochs).fit(module, datamodule=data)
    return module


def by_epoch(module: Recorder) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """The order of the indices and the images in that order, of each epoch."""
    epochs = sorted({entry[0] for entry in module.seen["train"]})
    pick = {e: [entry for entry in module.seen["train"] if entry[0] == e] for e in epochs}
    return {e: (torch.cat([x[3] for x in p]), torch.cat([x[1] for x in p])) for e, p in pick.items()}


@pytest.mark.parametrize("holdout", [0.0, 0.1, 0.25, 0.5])
def test_split_is_stratified_and_complete(holdout):
    labels = torch.tensor([0] * 40 + [1] * 20 + [2] * 8)[torch.randperm(68)]
    kept, held = stratified_split(labels, holdout, seed=4)
    assert sorted([*kept, *held]) == list(range(68))
    expected = [round(holdout * n) for n in (40, 20, 8)]
    assert torch.bincount(labels[held], minlength=3).tolist() == expected
    again = stratified_split(labels, holdout, seed=4)
    assert np.array_equal(again[1], held)
    if holdout:
        assert not np.array_equal(stratified_split(labels, holdout, seed=5)[1], held)


def test_split_leaves_every_class_something_to_train_on():
    labels = torch.tensor([0, 1, 1, 2, 2, 2])
    kept, held = stratified_split(labels, 0.01, seed=0)
    assert torch.bincount(labels[kept]).tolist() == [1, 1, 2]
    assert torch.bincount(labels[held], minlength=3).tolist() == [0, 1, 1]


def flat(batches: Iterable[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(batches))


def order(batch_size: int, epoch: int, n: int = 50, **place) -> list[list[int]]:
    sampler = EpochOrder(np.arange(100, 100 + n), batch_size, seed=2, **place)
    sampler.set_epoch(epoch)
    batches = [indices.tolist() for _, indices in sampler]
    assert len(batches) == len(sampler)
    return batches


def test_order_depends_on_the_epoch_and_not_on_the_batch_size():
    whole = flat(order(10, epoch=3))
    assert whole == flat(order(16, epoch=3))
    assert sorted(whole) == list(range(100, 150))
    assert whole != flat(order(10, epoch=4))
    assert whole == flat(order(10, epoch=1, first_epoch=2))


def test_only_a_last_batch_of_one_image_is_dropped():
    assert [len(b) for b in order(7, 0)] == [7] * 7
    assert [len(b) for b in order(8, 0)] == [8] * 6 + [2]


@pytest.mark.parametrize(("batch_size", "replicas"), [(1, 1), (3, 2)])
def test_batches_that_leave_nothing_to_train_on_are_refused(batch_size, replicas):
    with pytest.raises(
        UserError, match=f"batches of {batch_size} of 50 images leave each of {replicas} processes fewer"
    ):
        order(batch_size, 0, replicas=replicas)


def test_processes_share_each_batch():
    one = order(16, 0, n=49)
    two = [order(16, 0, n=49, rank=rank, replicas=2) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*two, strict=True)] == [sorted(batch) for batch in one]


@pytest.mark.parametrize(
    ("images", "batch_size", "replicas"), [(10, 2, 3), (9, 2, 3), (1001, 500, 2), (3, 2, 4), (7, 2, 1)]
)
def test_processes_go_through_all_images_in_equally_many_batches(images: int, batch_size: int, replicas: int):
    orders = [in_order(np.arange(images), batch_size, rank, replicas) for rank in range(replicas)]
    batches = [[indices.tolist() for _, indices in order] for order in orders]
    assert {len(order) for order in orders} == {-(-images // (batch_size * replicas))}
    assert max(len(batch) for mine in batches for batch in mine) <= batch_size
    assert sorted(flat(flat(mine) for mine in batches)) == list(range(images))


def test_trainer_sees_each_epochs_own_order_and_validation_only_held_out_images():
    data = real_data()
    module = run(data, epochs=3)
    epochs = by_epoch(module)
    for epoch, (indices, _) in epochs.items():
        expected = EpochOrder(data.train_indices, 8, seed=1, first_epoch=epoch)
        assert indices.tolist() == flat((i.tolist() for _, i in expected))
    held = {i for entry in module.seen["val"] for i in entry[3].tolist()}
    assert held == set(data.held_indices.tolist())
    assert held.isdisjoint(epochs[0][0].tolist())


def test_a_run_that_goes_on_later_sees_what_the_whole_run_saw():
    whole = by_epoch(run(real_data(), epochs=4))
    rest = by_epoch(run(real_data(first_epoch=2), epochs=2))
    for epoch in (0, 1):
        for mine, theirs in zip(rest[epoch], whole[epoch + 2], strict=True):
            assert torch.equal(mine, theirs)


def test_batch_size_does_not_change_an_images_augmentation():
    small, large = (by_epoch(run(real_data(batch_size=size), epochs=1))[0] for size in (6, 24))
    assert torch.equal(small[0], large[0])
    assert torch.equal(small[1], large[1])


def test_only_training_images_are_augmented_and_all_are_normalised():
    data = real_data()
    module = run(data, epochs=1)
    _, images, labels, indices = module.seen["val"][0]
    assert torch.equal(images, (data.train.images[indices].float() / 255 - 0.5) / 0.25)
    assert torch.equal(labels, data.train.labels[indices])
    epoch, images, _, indices = module.seen["train"][0]
    augmented = data.augment.apply(data.train.images[indices], indices, 1, epoch, cropped=False)
    assert torch.equal(images, SPEC.normalise(augmented))


def test_training_images_may_be_seen_under_dsa_after_the_crop():
    """As DSA applied by hand to what the other augmentations give; validation images stay as they are."""
    plain, under_dsa = real_data(), real_data(augment=Augmentation("padded", 1, 1.0, True, dsa="dsa"))
    seen = [run(data, epochs=1) for data in (plain, under_dsa)]
    for (_, images, _, indices), (_, views, _, others) in zip(*(one.seen["train"] for one in seen), strict=True):
        assert torch.equal(indices, others)
        expected = dsa(images, 1, "augment", "dsa", 0, int(indices[0]))
        assert torch.equal(views, expected)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(*(one.seen["val"] for one in seen), strict=True))


def test_the_holdout_may_have_a_seed_of_its_own():
    one, other = real_data(seed=7), real_data(seed=7, holdout_seed=1)
    assert not np.array_equal(one.held_indices, other.held_indices)
    assert np.array_equal(other.held_indices, real_data(seed=1).held_indices)
    assert flat(i.tolist() for _, i in other.train_dataloader().sampler) == flat(
        i.tolist() for _, i in EpochOrder(other.train_indices, 8, seed=7)
    )


@pytest.mark.parametrize(("count", "sizes"), [(40, [16, 16, 8]), (20, [16, 4]), (17, [16]), (99, [16, 16, 16])])
def test_augmented_batches_are_random_training_images_each_one_once(count: int, sizes: list[int]):
    data = real_data()
    batches = list(data.augmented_batches(count, 16, 5, torch.device("cpu")))
    assert [len(batch) for batch in batches] == sizes
    indices = torch.cat([indices for _, indices in EpochOrder(data.train_indices, 16, seed=5)])[: sum(sizes)]
    assert len(set(indices.tolist())) == sum(sizes)
    augmented = data.augment.apply(data.train.images[indices], indices, 5, 0, cropped=False)
    assert torch.equal(torch.cat(batches), SPEC.normalise(augmented))


def test_without_a_held_out_share_there_is_no_validation():
    module = run(real_data(holdout=0.0), epochs=1)
    assert module.seen["val"] == []
    assert sum(len(entry[3]) for entry in module.seen["train"]) == 60


def test_files_give_the_same_batches_with_and_without_workers(tmp_path, write_image):
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for i, path in enumerate(paths):
        write_image(path, seed=i, mode="L", width=9, height=7)
    files = FileImages(paths, torch.arange(12) % 3, channels=1, size=4)
    augment = Augmentation("resized", min_scale=0.2, flip=True)
    runs = [
        by_epoch(run(RealData(SPEC, files, augment, 0.0, 5, seed=1, workers=workers), epochs=2)) for workers in (0, 2)
    ]
    for epoch in (0, 1):
        for alone, helped in zip(runs[0][epoch], runs[1][epoch], strict=True):
            assert torch.equal(alone, helped)
    assert not torch.equal(runs[0][0][1], runs[0][1][1])
