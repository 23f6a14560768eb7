"""The preset for a user's own images: what it chooses for which data, and what a typed key does to that."""

from __future__ import annotations

import pytest
from PIL import Image

from teddy.config.own_data import Facts, choose, side_of


@pytest.mark.parametrize(
    ("shapes", "side"),
    [
        ([(8, 8)] * 3, 8),  # squares of one size keep it
        ([(30, 30)] * 3, 30),
        ([(4, 4)], 4),
        ([(64, 64)], 64),
        ([(224, 224)] * 2, 64),  # large ones do not
        ([(48, 72)] * 3, 48),  # the shorter side
        ([(48, 36)] * 3, 32),
        ([(30, 30), (31, 31)], 28),  # the largest side of the list that most images reach
        ([(20, 400), (3000, 2000), (4000, 3000)], 64),
        ([(10, 10), (12, 200), (3000, 2000)], 12),
        ([(3, 5)], 8),
    ],
)
def test_the_side_of_images_of_one_and_of_several_sizes(shapes, side):
    assert side_of(shapes) == side


@pytest.mark.parametrize(
    ("size", "network"),
    [(8, "convnet2"), (16, "convnet2"), (28, "convnet3"), (32, "convnet3"), (64, "convnet4"), (128, "convnet5")],
)
def test_the_depth_goes_by_size_as_in_the_literature(size, network):
    assert choose(Facts(2000, 10, size), 10)["network"] == f"{network}_w32"
    assert choose(Facts(50_000, 10, size), 10)["network"] == f"{network}_w128"


def test_cifar_gets_what_its_experiments_have(jobs):
    (config,) = jobs("+experiment=cifar10_table5", "method=[classwise,random]")
    chosen = choose(Facts(50_000, 10, 32), 10)
    training, pool = config.pool.training, config.pool
    assert (chosen["pool_epochs"], chosen["pool_lr"], chosen["pool_batch"]) == (
        training.epochs,
        training.lr,
        training.batch_size,
    )
    assert (chosen["pool_first"], chosen["pool_last"]) == (pool.first, pool.last)
    assert chosen["shift"] == config.synthesis.view.shift
    assert chosen["classwise_lr"] == config.methods["classwise"]["lr"]


@pytest.mark.parametrize(("images", "epochs"), [(2000, 30), (1000, 60), (100, 60), (9_999, 10)])
def test_teachers_of_few_images_see_60_000_of_them_and_are_some_epochs_old(images, epochs):
    chosen = choose(Facts(images, 10, 32), 10)
    assert chosen["pool_epochs"] == chosen["pool_last"] == epochs
    assert chosen["pool_first"] == epochs // 4


@pytest.mark.parametrize(("classes", "ipc", "batch"), [(10, 10, 25), (2, 1, 16), (52, 5, 65), (200, 50, 256)])
def test_the_students_batch_is_a_quarter_of_the_images_within_bounds(classes, ipc, batch):
    assert choose(Facts(2000, classes, 32), ipc)["student_batch"] == batch


@pytest.mark.parametrize(("size", "block"), [(8, 100), (64, 100), (128, 25), (224, 8), (4096, 1)])
def test_a_block_of_large_images_needs_the_memory_of_100_at_64_pixels(size, block):
    assert choose(Facts(2000, 10, size), 10)["block"] == block


@pytest.fixture
def folder(tmp_path):
    for name in ("ant", "bee"):
        for index in range(5):
            path = tmp_path / "my pictures" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (48, 36), (50 * index, 0, 0)).save(path)
    return tmp_path / "my pictures"


def test_the_preset_composes_to_plain_values_and_typed_keys_win(jobs, folder):
    words = ("+experiment=own_data", f"dataset.root='{folder}'", "dataset.test_fraction=0.2")
    (config,) = jobs(*words)
    assert (config.name, config.dataset.size, config.model.name) == ("own_data_my_pictures", 32, "convnet3_w32")
    assert config.pool.training.epochs == config.pool.last == 60  # eight training images
    assert "dataset.size=32 model.name=convnet3_w32 " in config.chosen
    assert config.evaluation.protocols["own"].augment == config.methods["classwise"]["strategy"] == "dsa_no_flip"

    (config,) = jobs(*words, "dataset.size=64", "synthesis.ipc=50", "dataset.augment.dsa=dsa", "pool.training.lr=0.5")
    assert (config.dataset.size, config.model.name, config.evaluation.batch_size) == (64, "convnet4_w32", 25)
    assert config.evaluation.protocols["own"].augment == config.methods["classwise"]["strategy"] == "dsa"
    assert "dataset.size=64 model.name=convnet4_w32 " in config.chosen
    assert "pool.training.lr=0.5 " in config.chosen

    (config,) = jobs(*words, "model=resnet18_cifar")
    assert "model.name=resnet18_cifar " in config.chosen


def test_data_that_cannot_be_read_are_left_to_the_plan(jobs, tmp_path):
    (config,) = jobs("+experiment=own_data", f"dataset.root={tmp_path / 'nowhere'}")
    assert (config.name, config.dataset.size) == ("own_data_nowhere", None)


def test_the_dm_protocol_under_the_teachers_augmentation(jobs):
    (config,) = jobs("+experiment=own_data", "dataset.augment.dsa=dsa")
    assert config.evaluation.protocols["own"] == config.evaluation.protocols["dm"]
