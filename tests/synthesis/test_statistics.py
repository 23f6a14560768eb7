"""Moments of BatchNorm inputs against torch's own, in value and gradient."""

import pytest
import torch

from teddy.synthesis.statistics import moments


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_moments_and_their_gradient_are_those_of_var_mean(memory):
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(5, 3, 4, 6, generator=draws, dtype=torch.float64).contiguous(memory_format=memory)
    weights = torch.randn(2, 3, generator=draws, dtype=torch.float64)
    ours, theirs = images.clone().requires_grad_(), images.clone().requires_grad_()
    mean, var = moments(ours)
    expected_var, expected_mean = torch.var_mean(theirs, dim=(0, 2, 3), correction=0)
    assert torch.allclose(mean, expected_mean, rtol=1e-13)
    assert torch.allclose(var, expected_var, rtol=1e-13)
    (weights[0] @ mean + weights[1] @ var).backward()
    (weights[0] @ expected_mean + weights[1] @ expected_var).backward()
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-12, atol=1e-15)


def test_gradcheck():
    images = torch.randn(
        3, 2, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True
    )
    assert torch.autograd.gradcheck(moments, (images,))


def test_half_precision_input_is_summed_in_float32_and_left_as_it_is():
    images = (torch.randn(64, 2, 16, 16, generator=torch.Generator().manual_seed(2)) + 3).bfloat16()
    before = images.clone()
    leaf = images.requires_grad_()
    mean, var = moments(leaf)
    exact = before.double()
    assert mean.dtype == var.dtype == torch.float32
    assert torch.allclose(mean.double(), exact.mean((0, 2, 3)), rtol=1e-5)
    assert torch.allclose(var.double(), exact.var((0, 2, 3), correction=0), rtol=1e-4)
    (mean.sum() + var.sum()).backward()
    count = 64 * 16 * 16
    expected = (1 + 2 * (exact - exact.mean((0, 2, 3), keepdim=True))) / count
    assert leaf.grad.dtype == torch.bfloat16
    # Eight bits of mantissa, and one more rounding for scale and shift each.
    assert (leaf.grad.double() - expected).abs().max() < 0.03 * expected.abs().max()
    assert torch.equal(images.detach(), before)


def test_float32_input_is_not_changed_in_place():
    images = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(3)).contiguous(
        memory_format=torch.channels_last
    )
    before = images.clone()
    moments(images)
    assert torch.equal(images, before)
