"""Normalisation against closed forms, for every one of the 256 levels."""

from __future__ import annotations

import pytest
import torch

from teddy.data.spec import DatasetSpec

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
DARK = ((0.1307,), (0.3081,))
ODD = ((0.999, 0.0, 0.5), (0.01, 3.0, 1.0))


def make(mean: tuple[float, ...], std: tuple[float, ...]) -> DatasetSpec:
    return DatasetSpec("toy", 2, len(mean), 16, mean, std, ("a", "b"), ("0", "1"))


def levels(channels: int) -> torch.Tensor:
    """Every level in every channel: (2, C, 16, 16), the second image upside down."""
    ramp = torch.arange(256, dtype=torch.uint8).view(16, 16)
    return torch.stack([ramp.expand(channels, 16, 16), ramp.flip(0, 1).expand(channels, 16, 16)])


@pytest.mark.parametrize(("mean", "std"), [IMAGENET, DARK, ODD])
def test_every_level_comes_back(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    spec, images = make(mean, std), levels(len(mean))
    there = spec.normalise(images)
    assert there.dtype == torch.float32
    back = spec.denormalise(there)
    assert back.dtype == torch.uint8
    assert torch.equal(back, images)


@pytest.mark.parametrize(("mean", "std"), [IMAGENET, DARK, ODD])
def test_closed_form_of_each_pixel(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    images = levels(len(mean))
    found = make(mean, std).normalise(images).double()
    for channel, (m, s) in enumerate(zip(mean, std, strict=True)):
        expected = (images[:, channel].double() / 255 - m) / s
        torch.testing.assert_close(found[:, channel], expected, atol=2e-7 / s, rtol=1e-6)


def test_denormalise_rounds_to_the_nearest_level_and_clamps() -> None:
    spec = make((0.5,), (0.25,))
    units = torch.tensor([-9.0, -0.001, 100.4 / 255, 100.6 / 255, 1.001, 9.0])
    found = spec.denormalise(((units - 0.5) / 0.25).view(1, 1, 1, -1))
    assert found.flatten().tolist() == [0, 0, 100, 101, 255, 255]


@pytest.mark.parametrize(("mean", "std"), [IMAGENET, DARK, ODD])
def test_pixel_bounds_are_black_and_white(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    spec = make(mean, std)
    low, high = spec.pixel_bounds()
    assert low.shape == high.shape == (len(mean), 1, 1)
    torch.testing.assert_close(low.flatten(), torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]))
    torch.testing.assert_close(high.flatten(), torch.tensor([(1 - m) / s for m, s in zip(mean, std, strict=True)]))
    clamped = torch.empty(1, len(mean), 4, 4).uniform_(-1e4, 1e4).clamp(low, high)
    assert clamped.isfinite().all()
    for level, bound in ((0, low), (255, high)):
        image = torch.full((1, len(mean), 2, 2), level, dtype=torch.uint8)
        torch.testing.assert_close(spec.normalise(image), bound.expand(1, -1, 2, 2))
        assert torch.equal(spec.denormalise(bound.expand(1, -1, 2, 2)), image)


def test_a_first_call_in_inference_mode_leaves_later_gradients_alone():
    spec = DatasetSpec("x", 2, 1, 4, (0.123,), (0.456,), ("a", "b"), ("0", "1"))
    with torch.inference_mode():
        first = spec.normalise(torch.full((1, 1, 4, 4), 51, dtype=torch.uint8))
    images = torch.full((1, 1, 4, 4), 51.0, requires_grad=True)
    second = spec.normalise(images)
    second.sum().backward()
    assert torch.equal(first, second.detach())
    assert torch.allclose(images.grad, torch.tensor(1 / 255 / 0.456))
    assert (images == 51).all(), "what was given is left alone"
