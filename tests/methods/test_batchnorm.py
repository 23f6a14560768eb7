"""BatchNorm with statistics, against torch's own BatchNorm and var_mean, in value and gradient."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from teddy.methods.batchnorm import BatchNormWithStatistics, MeasuredTeacher, StatisticsCollector


def layer(channels: int, affine: bool = True, dtype: torch.dtype = torch.float64) -> nn.BatchNorm2d:
    """A frozen layer that has seen some data."""
    draws = torch.Generator().manual_seed(5)
    one = nn.BatchNorm2d(channels, affine=affine, dtype=dtype)
    one.running_mean.copy_(torch.randn(channels, generator=draws))
    one.running_var.copy_(torch.rand(channels, generator=draws) + 0.5)
    if affine:
        nn.init.normal_(one.weight, generator=draws)
        nn.init.normal_(one.bias, generator=draws)
    return one.eval().requires_grad_(False)


def matched(one: nn.BatchNorm2d, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    collector = StatisticsCollector()
    outputs = BatchNormWithStatistics(one, collector)(images)
    (statistics,) = collector.seen
    assert statistics.running_mean is one.running_mean
    assert statistics.running_var is one.running_var
    return outputs, statistics.mean[0], statistics.var[0]


def plain(one: nn.BatchNorm2d, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    var, mean = torch.var_mean(images, dim=(0, 2, 3), correction=0)
    return one(images), mean, var


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("affine", [True, False])
def test_values_and_pixel_gradient_are_those_of_batchnorm_and_var_mean(memory, affine):
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(5, 3, 4, 6, generator=draws, dtype=torch.float64).contiguous(memory_format=memory)
    weights = [torch.randn(shape, generator=draws, dtype=torch.float64) for shape in (images.shape, (3,), (3,))]
    found = []
    for compute in (matched, plain):
        leaf = images.clone().requires_grad_()
        values = compute(layer(3, affine), leaf)
        sum((weight * value).sum() for weight, value in zip(weights, values, strict=True)).backward()
        found.append([*(value.detach() for value in values), leaf.grad])
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_the_gradient_exists_where_batchnorm_refuses_an_eps_of_zero(monkeypatch):
    """PyTorch 2.11 wants it to be positive also in eval mode; the gradient is the same to the last bit."""
    draws = torch.Generator().manual_seed(3)
    images, batch_norm = torch.randn(4, 3, 5, 5, generator=draws), F.batch_norm

    def strict(images, mean, var, weight, bias, training, momentum=0.1, eps=1e-5):
        if eps <= 0:
            raise ValueError(f"batch_norm eps must be positive, but got {eps}")
        return batch_norm(images, mean, var, weight, bias, training, momentum, eps)

    def without(images, mean, var, weight, bias, training, momentum=0.1, eps=1e-5):
        eps = eps if eps == 1e-5 else 0.0
        return torch.batch_norm(images, weight, bias, mean, var, training, momentum, eps, torch.backends.cudnn.enabled)

    found = []
    for kernel in (strict, without):
        monkeypatch.setattr(F, "batch_norm", kernel)
        leaf = images.clone().requires_grad_()
        sum(value.square().sum() for value in matched(layer(3, dtype=torch.float32), leaf)).backward()
        found.append(leaf.grad)
    assert torch.equal(*found)


def test_gradcheck():
    draws = torch.Generator().manual_seed(1)
    images = torch.randn(3, 2, 2, 2, generator=draws, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda inputs: matched(layer(2), inputs), (images,))


def test_half_precision_input_is_summed_in_float32_and_left_as_it_is():
    images = (torch.randn(64, 2, 16, 16, generator=torch.Generator().manual_seed(2)) + 3).bfloat16()
    before = images.clone()
    leaf = images.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        outputs, mean, var = matched(layer(2, dtype=torch.float32), leaf)
    exact = before.double()
    assert outputs.dtype == torch.bfloat16
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


def test_float32_statistics_are_exact_over_many_pixels():
    """The difference that is matched must not drown in the sum's rounding: 1.6 million values far from zero."""
    images = torch.randn(100, 2, 90, 90, generator=torch.Generator().manual_seed(3)) + 10
    _, mean, var = matched(layer(2, dtype=torch.float32), images.contiguous(memory_format=torch.channels_last))
    exact = images.double()
    assert torch.allclose(mean.double(), exact.mean((0, 2, 3)), rtol=1e-6)
    assert torch.allclose(var.double(), exact.var((0, 2, 3), correction=0), rtol=1e-4)


def test_nothing_that_the_teacher_remembers_is_changed():
    one = layer(3, dtype=torch.float32)
    before = {name: tensor.clone() for name, tensor in one.state_dict().items()}
    images = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(3)).contiguous(
        memory_format=torch.channels_last
    )
    kept = images.clone()
    matched(one, images)
    assert torch.equal(images, kept)
    assert all(torch.equal(tensor, before[name]) for name, tensor in one.state_dict().items())


def test_a_teacher_answers_as_before_and_layers_come_in_the_order_of_the_forward_pass():
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), layer(4, dtype=torch.float32), nn.Sequential(nn.ReLU(), layer(4, dtype=torch.float32))
    )
    network.eval().requires_grad_(False)
    images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    expected, inputs = network(images), network[0](images)
    logits, seen = MeasuredTeacher(network)(images)
    assert torch.equal(logits, expected)
    assert len(seen) == 2
    assert torch.allclose(seen[0].mean[0], inputs.mean((0, 2, 3)), atol=1e-6)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_blocks_that_go_through_together_are_measured_and_pulled_each_for_itself(memory):
    draws = torch.Generator().manual_seed(6)
    images = torch.randn(6, 3, 4, 5, generator=draws, dtype=torch.float64).contiguous(memory_format=memory)
    weights = torch.randn(6, 3, 4, 5, generator=draws, dtype=torch.float64)
    pulls = torch.randn(2, 3, 3, generator=draws, dtype=torch.float64)  # on mean and variance of three blocks

    together = images.clone().requires_grad_()
    collector = StatisticsCollector(blocks=3)
    outputs = BatchNormWithStatistics(layer(3), collector)(together)
    (statistics,) = collector.seen
    (weights * outputs).sum().add((pulls[0] * statistics.mean + pulls[1] * statistics.var).sum()).backward()

    alone = images.clone().requires_grad_()
    for place, part in enumerate(alone.chunk(3)):
        outputs, mean, var = plain(layer(3), part)
        assert torch.allclose(statistics.mean[place], mean, rtol=1e-12)
        assert torch.allclose(statistics.var[place], var, rtol=1e-12)
        loss = (weights.chunk(3)[place] * outputs).sum() + (pulls[0, place] * mean + pulls[1, place] * var).sum()
        loss.backward()
    assert torch.allclose(together.grad, alone.grad, rtol=1e-12, atol=1e-14)
