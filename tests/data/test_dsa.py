"""DSA's operations against their formulas."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from teddy.data import dsa as module
from teddy.data.dsa import DSA_DRAWS, STRATEGIES, dsa
from teddy.runtime import seeding

(OPERATIONS,) = STRATEGIES["dsa"]
HALVES = np.full((8, 3), 0.5)


def batch(channels: int = 3, size: int = 16, n: int = 8) -> torch.Tensor:
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(0))


def uniforms(n: int = 8) -> np.ndarray:
    return np.random.default_rng(0).random((n, 3))


def test_brightness_adds_a_constant_per_image() -> None:
    u = uniforms()
    u[:, 1] = 0.5  # saturation 2 * 0.5 = 1
    u[:, 2] = 0.5  # contrast 0.5 + 0.5 = 1
    shift = module.color(batch(), u) - batch()
    expected = torch.from_numpy(u[:, 0] - 0.5).float().view(-1, 1, 1, 1).expand_as(shift)
    torch.testing.assert_close(shift, expected, atol=1e-5, rtol=0)


def test_saturation_zero_is_grey_and_keeps_the_channel_mean() -> None:
    u = np.tile([0.5, 0.0, 0.5], (8, 1))
    images = batch()
    grey = module.color(images, u)
    torch.testing.assert_close(grey, images.mean(1, keepdim=True).expand_as(images), atol=1e-5, rtol=0)


def test_contrast_scales_about_the_image_mean() -> None:
    u = np.tile([0.5, 0.5, 0.25], (8, 1))
    images = batch().double()
    changed = module.color(images, u)
    torch.testing.assert_close(changed.mean((1, 2, 3)), images.mean((1, 2, 3)))
    torch.testing.assert_close(changed.std((1, 2, 3)), 0.75 * images.std((1, 2, 3)))


def test_saturation_does_nothing_to_one_channel() -> None:
    images, u = batch(channels=1), uniforms()
    other = u.copy()
    other[:, 1] = 0.9
    torch.testing.assert_close(module.color(images, u), module.color(images, other))


def test_crop_is_a_shift_with_zeros() -> None:
    images, u = batch(), uniforms()
    out = module.crop(images, u)
    for image, row, draw in zip(images, out, u, strict=True):
        down, right = (int(value * 5) - 2 for value in draw[:2])  # 16 * 0.125 = 2 pixels either way
        expected = torch.zeros_like(image)
        for y in range(16):
            for x in range(16):
                if 0 <= y + down < 16 and 0 <= x + right < 16:
                    expected[:, y, x] = image[:, y + down, x + right]
        assert torch.equal(row, expected)


@pytest.mark.parametrize("size", [16, 13])
def test_cutout_zeroes_a_clipped_square(size: int) -> None:
    images, u = batch(size=size), uniforms()
    u[0, :2], u[1, :2] = 0.0, 0.999999
    out = module.cutout(images, u)
    side = int(size / 2 + 0.5)
    for image, row, draw in zip(images, out, u, strict=True):
        y, x = (math.floor(value * (size + 1 - side % 2)) - side // 2 for value in draw[:2])
        expected = image.clone()
        expected[:, max(y, 0) : y + side, max(x, 0) : x + side] = 0
        assert torch.equal(row, expected)
    assert (out[0, 0, : side // 2, : side // 2] == 0).all()
    assert out[1, 0, 0, 0] != 0


def test_flip_where_drawn() -> None:
    images, u = batch(), uniforms()
    out = module.flip(images, u)
    for image, row, draw in zip(images, out, u, strict=True):
        assert torch.equal(row, torch.flip(image, [-1]) if draw[0] < 0.5 else image)
    assert 0 < (u[:, 0] < 0.5).sum() < 8


def test_scale_of_one_and_angle_of_zero_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = batch().double()
    monkeypatch.setattr(module, "SCALE", 1.0)
    torch.testing.assert_close(module.scale(images, uniforms()), images)
    torch.testing.assert_close(module.rotate(images, HALVES), images)


def test_scale_moves_positions_by_the_factor() -> None:
    # On a ramp, bilinear sampling at x * factor reads x * factor, away from the border.
    ramp = (torch.arange(16.0) - 7.5).expand(1, 1, 16, 16).double()
    u = np.array([[0.0, 0.5, 0.0]])
    zoomed = module.scale(ramp, u)
    torch.testing.assert_close(zoomed[:, :, 2:14], ramp[:, :, 2:14] / 1.2)


def test_rotation_reaches_its_angle() -> None:
    ramp = (torch.arange(16.0) - 7.5).double()
    x, y = ramp.expand(1, 1, 16, 16), ramp[:, None].expand(1, 1, 16, 16)
    angle = math.radians(15)
    turned = module.rotate(x, np.zeros((1, 3)))
    expected = math.cos(angle) * x + math.sin(angle) * y
    inner = (..., slice(4, 12), slice(4, 12))
    torch.testing.assert_close(turned[inner], expected[inner])


def test_sampling_by_gathered_neighbours_is_grid_sample_in_value_and_gradient() -> None:
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 9, 7, generator=draws, dtype=torch.float64, requires_grad=True)
    grid = 1.4 * torch.randn(4, 9, 7, 2, generator=draws, dtype=torch.float64)  # many positions lie outside
    weights = torch.randn(4, 3, 9, 7, generator=draws, dtype=torch.float64)
    found = []
    for sample in (module.gathered, partial(F.grid_sample, align_corners=False)):
        sampled = sample(images, grid)
        found.append((sampled, *torch.autograd.grad((weights * sampled).sum(), images)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_operation_keeps_the_shape_and_has_a_gradient(channels: int) -> None:
    for operation in OPERATIONS:
        images = batch(channels=channels).requires_grad_()
        out = operation(images, uniforms())
        assert out.shape == images.shape
        (gradient,) = torch.autograd.grad(out.square().sum(), images)
        assert gradient.abs().sum() > 0


def test_dsa_is_reproducible_and_uses_every_operation() -> None:
    images = batch()
    assert torch.equal(dsa(images, 0, "dsa", 3), dsa(images, 0, "dsa", 3))
    results = [dsa(images, 0, "dsa", i) for i in range(60)]
    u = {i: module.seeding.uniform(0, "dsa", i, "strength", samples=np.arange(8), draws=3) for i in range(60)}
    for operation in OPERATIONS:
        hits = sum(torch.equal(results[i], operation(images, u[i])) for i in range(60))
        assert hits >= 3, operation


def test_images_of_one_batch_get_their_own_strength() -> None:
    same = batch(n=1).expand(8, -1, -1, -1)
    for i in range(12):
        assert len({tuple(row.flatten().tolist()) for row in dsa(same, "own", i)}) > 1


def test_siamese_images_share_one_strength_and_batches_of_any_size_agree():
    """The same image at every place, and in batches of two sizes, comes out the same; without siamese it does not."""
    one = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    kinds = set()
    for draw in range(40):
        batch = dsa(one.expand(5, -1, -1, -1), "test", draw, siamese=True)
        assert torch.equal(batch, batch[:1].expand_as(batch))
        assert torch.equal(batch[:2], dsa(one.expand(2, -1, -1, -1), "test", draw, siamese=True))
        own = dsa(one.expand(5, -1, -1, -1), "test", draw)
        kinds.add(bool(torch.equal(own, own[:1].expand_as(own))))
    assert kinds == {True, False} or kinds == {False}


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_a_strategy_applies_one_operation_of_each_step(strategy: str) -> None:
    images, seen = batch().double(), set()
    for seed in range(20):
        expected = images
        for index, operations in enumerate(STRATEGIES[strategy]):
            keys = (seed, "x", index) if index else (seed, "x")
            chosen = operations[int(seeding.uniform(*keys, "operation")[0, 0] * len(operations))]
            seen.add(chosen)
            draws = seeding.uniform(*keys, "strength", samples=np.arange(len(images)), draws=DSA_DRAWS)
            expected = torch.cat([chosen(one[None], row[None]) for one, row in zip(expected, draws, strict=True)])
        torch.testing.assert_close(dsa(images, seed, "x", strategy=strategy), expected)
    assert seen == {operation for operations in STRATEGIES[strategy] for operation in operations}


def test_without_flips_no_draw_mirrors_and_all_other_operations_stay() -> None:
    (kept,) = STRATEGIES["dsa_no_flip"]
    assert [operation for operation in OPERATIONS if operation is not module.flip] == list(kept)
    step = torch.linspace(-1, 1, 16).repeat(8, 3, 16, 1)  # brighter to the right
    for key in range(40):
        seen = dsa(step, key, strategy="dsa_no_flip")
        assert (seen[..., 8:].sum((1, 2, 3)) >= seen[..., :8].sum((1, 2, 3))).all()
