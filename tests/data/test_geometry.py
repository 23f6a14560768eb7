"""Batched geometry against torchvision, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from teddy.data import geometry
from teddy.runtime import seeding


def boxes_for(n: int, height: int, width: int, min_scale: float = 0.08) -> torch.Tensor:
    uniforms = seeding.uniform("boxes", samples=np.arange(n), draws=geometry.CROP_DRAWS)
    return geometry.crop_boxes(uniforms, height, width, min_scale)


@pytest.mark.parametrize("shape", [(32, 32), (20, 37), (37, 20)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_resized_crop_is_torchvisions(shape: tuple[int, int], dtype: torch.dtype, tolerance: float) -> None:
    images = torch.randn(24, 3, *shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    boxes = boxes_for(24, *shape)
    boxes[0] = torch.tensor([0, 0, *shape])
    boxes[1] = torch.tensor([shape[0] - 1, shape[1] - 1, 1, 1])
    boxes[2] = torch.tensor([3, 4, 1, 9])
    ours = geometry.resized_crop(images, boxes, 32)
    for image, box, row in zip(images, boxes, ours, strict=True):
        theirs = reference.resized_crop(image, *box.tolist(), size=[32, 32], antialias=False)
        torch.testing.assert_close(row, theirs, atol=tolerance, rtol=0)


def test_a_shared_crop_is_the_same_crop_of_each_image_in_value_and_gradient() -> None:
    images = torch.randn(3, 2, 20, 20, dtype=torch.float64)
    for box in boxes_for(8, 20, 20):
        found = []
        crops = (
            geometry.shared_crop,
            lambda images, box, size: geometry._SharedBilinear.apply(images, *box.tolist(), size),  # off the CPU
            lambda images, box, size: geometry.resized_crop(images, box.expand(3, 4), size),
        )
        for crop in crops:
            leaf = images.clone().requires_grad_()
            cut = crop(leaf, box, 20)
            cut.sin().sum().backward()
            found.append((cut.detach(), leaf.grad))
        for ours, off_the_cpu, theirs in zip(*found, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
            torch.testing.assert_close(off_the_cpu, theirs, atol=1e-12, rtol=0)


def test_whole_image_box_changes_nothing() -> None:
    images = torch.randn(4, 3, 48, 48, dtype=torch.float64)
    boxes = torch.tensor([[0, 0, 48, 48]]).expand(4, 4)
    torch.testing.assert_close(geometry.resized_crop(images, boxes, 48), images, atol=1e-12, rtol=0)


def test_nothing_outside_the_box_leaks_in() -> None:
    images = torch.full((1, 1, 16, 16), 1e6)
    images[:, :, 4:9, 5:12] = 1.0
    crop = geometry.resized_crop(images, torch.tensor([[4, 5, 5, 7]]), 16)
    torch.testing.assert_close(crop, torch.ones_like(crop), atol=2.0, rtol=0)  # 1e6 times float32 rounding
    exact = geometry.resized_crop(images.double(), torch.tensor([[4, 5, 5, 7]]), 16)
    torch.testing.assert_close(exact, torch.ones_like(exact), atol=1e-8, rtol=0)


def test_bfloat16_keeps_its_type_and_the_right_positions() -> None:
    ramp = torch.arange(224.0).expand(2, 1, 224, 224)
    box = torch.tensor([[10, 100, 100, 100], [0, 20, 200, 60]])
    crop = geometry.resized_crop(ramp.bfloat16(), box, 224)
    assert crop.dtype == torch.bfloat16
    torch.testing.assert_close(crop.float(), geometry.resized_crop(ramp, box, 224), atol=1.0, rtol=0)


def test_rows_do_not_see_each_other() -> None:
    images, boxes = torch.randn(9, 3, 32, 32), boxes_for(9, 32, 32)
    together = geometry.resized_crop(images, boxes, 32)
    for i in range(9):
        assert torch.equal(geometry.resized_crop(images[i : i + 1], boxes[i : i + 1], 32)[0], together[i])


def test_gradients() -> None:
    images = torch.randn(3, 2, 7, 9, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[0, 0, 7, 9], [1, 2, 3, 4], [6, 8, 1, 1]])
    assert torch.autograd.gradcheck(lambda x: geometry.resized_crop(x, boxes, 5), images)
    assert torch.autograd.gradgradcheck(lambda x: geometry.resized_crop(x, boxes, 5).square(), images)
    assert torch.autograd.gradcheck(lambda x: geometry.shared_crop(x, boxes[1], 5), images)
    assert torch.autograd.gradcheck(lambda x: geometry.flip(x, torch.tensor([True, False, True])), images)
    assert torch.autograd.gradcheck(
        lambda x: geometry.padded_crop(x, torch.tensor([[0, 4], [2, 2], [3, 1]]), 2), images
    )


def test_gradient_is_torchvisions() -> None:
    torch.manual_seed(0)
    images, boxes = torch.randn(6, 3, 24, 24, requires_grad=True), boxes_for(6, 24, 24)
    weights = torch.randn(6, 3, 24, 24)
    (ours,) = torch.autograd.grad((geometry.resized_crop(images, boxes, 24) * weights).sum(), images)
    crops = [
        reference.resized_crop(image, *box.tolist(), size=[24, 24], antialias=False)
        for image, box in zip(images, boxes, strict=True)
    ]
    (theirs,) = torch.autograd.grad((torch.stack(crops) * weights).sum(), images)
    torch.testing.assert_close(ours, theirs, atol=5e-4, rtol=0)


def test_shared_crop_is_interpolation_of_the_slice() -> None:
    images = torch.randn(5, 3, 32, 32, dtype=torch.float64)
    expected = torch.nn.functional.interpolate(
        images[:, :, 3:20, 7:30], size=(32, 32), mode="bilinear", align_corners=False
    )
    ours = geometry.shared_crop(images, torch.tensor([3, 7, 17, 23]), 32)
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=0)


def slow_box(row: np.ndarray, height: int, width: int, min_scale: float) -> list[int]:
    """The obvious version of one draw, in the order that torchvision asks for its numbers."""
    draws = iter(row)
    for _ in range(10):
        area = height * width * (min_scale + (1 - min_scale) * next(draws))
        aspect = float(np.exp(np.log(3 / 4) + (np.log(4 / 3) - np.log(3 / 4)) * next(draws)))
        w, h = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            return [int(row[20] * (height - h + 1)), int(row[21] * (width - w + 1)), h, w]
    if width / height < 3 / 4:
        w, h = width, round(width / (3 / 4))
    elif width / height > 4 / 3:
        w, h = round(height * (4 / 3)), height
    else:
        w, h = width, height
    return [(height - h) // 2, (width - w) // 2, h, w]


@pytest.mark.parametrize("shape", [(32, 32), (8, 40), (40, 8), (1, 1)])
@pytest.mark.parametrize("min_scale", [0.01, 0.5, 1.0])
def test_crop_boxes_are_the_slow_versions(shape: tuple[int, int], min_scale: float) -> None:
    uniforms = seeding.uniform("slow", samples=np.arange(300), draws=geometry.CROP_DRAWS)
    boxes = geometry.crop_boxes(uniforms, *shape, min_scale)
    assert boxes.dtype == torch.int64
    assert boxes.tolist() == [slow_box(row, *shape, min_scale) for row in uniforms]


def test_crop_boxes_have_torchvisions_distribution() -> None:
    torch.manual_seed(0)
    draw = v2.RandomResizedCrop(32, scale=(0.08, 1.0))
    image = torch.zeros(3, 32, 48)
    theirs = torch.tensor([list(draw.make_params([image]).values()) for _ in range(4000)]).double()
    ours = boxes_for(4000, 32, 48).double()
    error = (theirs.var(0) / 4000 + ours.var(0) / 4000).sqrt()
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 5 * error).all()
    torch.testing.assert_close(ours.std(0), theirs.std(0), rtol=0.07, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_padded_crop_is_torchvisions(dtype: torch.dtype) -> None:
    images = (torch.rand(6, 3, 10, 12) * 255).to(dtype)
    offsets = torch.tensor([[0, 0], [8, 8], [4, 4], [0, 8], [3, 5], [7, 1]])
    ours = geometry.padded_crop(images, offsets, 4)
    for image, (top, left), row in zip(images, offsets.tolist(), ours, strict=True):
        assert torch.equal(row, reference.crop(reference.pad(image, [4]), top, left, 10, 12))
    assert torch.equal(ours[2], images[2])


def test_flip() -> None:
    images = torch.arange(24).view(2, 1, 3, 4)
    flipped = geometry.flip(images, torch.tensor([True, False]))
    assert torch.equal(flipped[0], reference.horizontal_flip(images[0]))
    assert torch.equal(flipped[1], images[1])
