"""The start of the optimisation."""

import torch

from teddy.data.tiles import encode_tiles
from teddy.synthesis.blocks import Block
from teddy.synthesis.init import noise, random_images, real


def test_random_images_are_different_and_of_their_class(inputs):
    chosen = random_images(inputs.train, range(3), ipc=8, seed=0)
    for label in range(3):
        assert set(inputs.train.labels[chosen[label]].tolist()) == {label}
        assert len(set(chosen[label].tolist())) == 8


def test_a_small_ipc_is_the_beginning_of_a_larger_one_and_seeds_differ(inputs):
    train = inputs.train
    assert torch.equal(random_images(train, range(3), 2, seed=0), random_images(train, range(3), 9, seed=0)[:, :2])
    assert not torch.equal(random_images(train, range(3), 9, seed=0), random_images(train, range(3), 9, seed=1))


def test_a_class_smaller_than_ipc_starts_over(inputs):
    chosen = random_images(inputs.train, range(3), ipc=25, seed=0)
    assert sorted(set(chosen[1].tolist())) == list(range(1, 60, 3))


def test_real_gives_the_chosen_images_normalised(inputs):
    block = Block(0, classes=(2, 0), slots=(1, 3))
    chosen = random_images(inputs.train, range(3), 5, seed=4)
    expected = (inputs.train.take(torch.stack([chosen[2, 1], chosen[0, 3]])).float() / 255 - 0.4) / 0.3
    assert torch.allclose(real(block, inputs, 5, 4), expected)


def test_noise_belongs_to_class_and_slot_not_to_the_block(inputs):
    together = noise(Block(0, (0, 1, 2), (5, 5, 5)), inputs, 9, 0)
    alone = noise(Block(7, (1,), (5,)), inputs, 9, 0)
    assert torch.equal(together[1], alone[0])
    many = noise(Block(0, (0,) * 400, tuple(range(400))), inputs, 400, 0)
    assert abs(many.mean().item()) < 0.05
    assert abs(many.std().item() - 1) < 0.05


def test_a_mosaic_holds_different_images_of_its_class(inputs):
    block, chosen = Block(0, classes=(2, 0), slots=(1, 0)), random_images(inputs.train, range(3), 8, seed=4)
    images = inputs.spec.denormalise(real(block, inputs, 2, 4, tiles=2))
    for image, members in zip(images, (chosen[2, 4:], chosen[0, :4]), strict=True):
        assert torch.equal(image, encode_tiles(inputs.train.take(members), 2)[0])
