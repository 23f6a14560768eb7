"""Views of a block: shared, replayable, differentiable."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from teddy.data import geometry
from teddy.runtime import seeding
from teddy.synthesis.views import BlockView


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_nothing_asked_for_changes_nothing(images):
    view = BlockView(crop=False, min_scale=1.0, flip=False, shift=0)
    assert torch.equal(view(images, 0, 0, 0), images)


def test_a_shared_view_is_torchvisions_crop_flip_and_roll_of_the_whole_batch(images):
    view = BlockView(crop=True, min_scale=0.3, flip=True, shift=3)
    for iteration in range(8):
        draws = seeding.uniform("view", 0, iteration, samples=np.arange(1), draws=geometry.CROP_DRAWS + 3)
        top, left, height, width = geometry.crop_boxes(draws[:, 3:], 16, 16, 0.3)[0].tolist()
        expected = TF.resized_crop(images, top, left, height, width, [16, 16], antialias=False)
        if draws[0, 0] < 0.5:
            expected = TF.horizontal_flip(expected)
        shift = [int(np.floor(draw * 7)) - 3 for draw in draws[0, 1:3]]
        expected = torch.roll(expected, shift, dims=(-2, -1))
        assert torch.allclose(view(images, 0, iteration), expected, atol=1e-5)


def test_views_differ_by_iteration_and_repeat_by_key(images):
    view = BlockView(crop=True, min_scale=0.08, flip=True, shift=2)
    assert torch.equal(view(images, 1, 2), view(images, 1, 2))
    assert not torch.equal(view(images, 1, 2), view(images, 1, 3))


def test_the_gradient_is_that_of_autograd_through_the_view(images):
    view = BlockView(crop=True, min_scale=0.2, flip=True, shift=1)
    small = images[:2, :1, :6, :6].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda pixels: view(pixels, 3, 1), (small,))


def test_shifts_stay_within_the_given_distance():
    dot = torch.zeros(1, 1, 16, 16)
    dot[0, 0, 8, 8] = 1
    view = BlockView(crop=False, min_scale=1.0, flip=False, shift=2)
    places = {tuple(torch.nonzero(view(dot, 0, t)[0, 0])[0].tolist()) for t in range(200)}
    assert places == {(8 + dy, 8 + dx) for dy in range(-2, 3) for dx in range(-2, 3)}
