"""The slow reference computes the library's Eq. 7, and moves the pixels as the library does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.setting import make_up_statistics
from benchmarks.straightforward import StraightforwardLoss, StraightforwardStep
from teddy.methods.teddy import ensemble_gradient, teacher_losses
from teddy.models.networks import build_network


def teachers(network: str, dtype: torch.dtype) -> list[nn.Module]:
    made = []
    for seed in range(2):
        teacher = build_network(network, num_classes=3, channels=3, size=16, seed=seed)
        make_up_statistics(teacher, seed)
        made.append(teacher.to(dtype).eval().requires_grad_(False))
    return made


def block(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(5)
    return torch.randn(6, 3, 16, 16, generator=draws, dtype=dtype), torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("network", ["convnet2_w4", "resnet18_cifar_w4"])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_loss_and_pixel_gradient_are_the_librarys(network, dtype, rtol):
    images, labels = block(dtype)
    slow = [teacher.to(memory_format=torch.contiguous_format) for teacher in teachers(network, dtype)]
    leaf = images.clone().requires_grad_()
    loss = StraightforwardLoss(slow, 0.7, 0.3, 10.0)(leaf, labels)
    loss.backward()

    plan = [(loss_of, [0]) for loss_of in teacher_losses(teachers(network, dtype), 10.0)]
    gradient, terms = ensemble_gradient(plan, images, labels, 0.7, 0.3)

    assert terms.total.item() == pytest.approx(loss.item(), rel=rtol)
    assert leaf.grad is not None
    assert torch.allclose(gradient, leaf.grad, rtol=rtol, atol=rtol * leaf.grad.abs().max().item())


def test_a_step_moves_the_pixels_and_keeps_them_in_their_range():
    images, labels = block(torch.float32)
    low, high = torch.tensor([-1.0, -0.9, -0.8]).view(3, 1, 1), torch.tensor([1.0, 0.9, 0.8]).view(3, 1, 1)
    loss = StraightforwardLoss(teachers("convnet2_w4", torch.float32), 1.0, 0.1, 10.0)
    torch.manual_seed(0)  # its views are drawn by the surrounding generator
    step = StraightforwardStep(loss, images, labels, (low, high), 0.1, (0.5, 0.9), 0.5, 3)
    first = step()
    moved = step.pixels.detach()
    assert not torch.equal(moved, images)
    assert (moved >= low).all()
    assert (moved <= high).all()
    assert [step() for _ in range(15)][-1] < first
