"""Where blocks start."""

import torch

from teddy.data.images import TensorImages
from teddy.data.spec import DatasetSpec
from teddy.synthesis.blocks import Block
from teddy.synthesis.initial import noise, random_images, real

SPEC = DatasetSpec("toy", 3, 1, 4, (0.5,), (0.25,), ("a", "b", "c"), ("0_a", "1_b", "2_c"))


def toy_set() -> TensorImages:
    labels = torch.arange(3).repeat(20)
    # The gray level tells which image it is.
    return TensorImages(torch.arange(60, dtype=torch.uint8).view(60, 1, 1, 1).expand(60, 1, 4, 4).clone(), labels)


def test_random_images_are_different_and_of_their_class():
    train = toy_set()
    chosen = random_images(train, 3, ipc=8, seed=0)
    for label in range(3):
        assert set(train.labels[chosen[label]].tolist()) == {label}
        assert len(set(chosen[label].tolist())) == 8


def test_a_small_ipc_is_the_beginning_of_a_larger_one_and_seeds_differ():
    train = toy_set()
    assert torch.equal(random_images(train, 3, 2, seed=0), random_images(train, 3, 9, seed=0)[:, :2])
    assert not torch.equal(random_images(train, 3, 9, seed=0), random_images(train, 3, 9, seed=1))


def test_a_class_smaller_than_ipc_starts_over():
    train = toy_set()
    chosen = random_images(train, 3, ipc=25, seed=0)
    assert sorted(set(chosen[1].tolist())) == list(range(1, 60, 3))


def test_real_gives_the_chosen_images_normalised():
    train = toy_set()
    block = Block(0, classes=(2, 0), slots=(1, 3))
    chosen = random_images(train, 3, 5, seed=4)
    expected = (train.images[torch.stack([chosen[2, 1], chosen[0, 3]])].float() / 255 - 0.5) / 0.25
    assert torch.allclose(real(block, SPEC, train, 5, 4), expected)


def test_noise_belongs_to_class_and_slot_not_to_the_block():
    train = toy_set()
    together = noise(Block(0, (0, 1, 2), (5, 5, 5)), SPEC, train, 9, 0)
    alone = noise(Block(7, (1,), (5,)), SPEC, train, 9, 0)
    assert torch.equal(together[1], alone[0])
    many = noise(Block(0, (0,) * 400, tuple(range(400))), SPEC, train, 400, 0)
    assert abs(many.mean().item()) < 0.05
    assert abs(many.std().item() - 1) < 0.05
