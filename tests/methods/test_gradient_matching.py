"""DC and DSA against their published updates written as plain loops over torch's own networks and optimizers."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from teddy.config.errors import UserError
from teddy.data.dsa import dsa
from teddy.methods.gradient_matching import GradientMatching, gradient_distance
from teddy.models.networks import build_network
from teddy.runtime import seeding
from teddy.runtime.resume import load_point
from teddy.synthesis import engine
from teddy.synthesis.engine import start_state
from teddy.synthesis.init import random_images
from tests.methods.test_run import DEVICE, inputs, nearly_equal, run_in  # noqa: F401 - a fixture
from tests.synthesis.test_engine import held

NETWORK = "convnet2_w4_in"


@pytest.fixture
def method() -> GradientMatching:
    return GradientMatching(
        ipc=2,
        iterations=8,
        network=NETWORK,
        lr=0.5,
        momentum=0.5,
        outer_loops=3,
        inner_loops=2,
        network_lr=0.3,
        network_batch_size=4,
        strategy="dsa",
        real_images=6,
    )


def slow_distance(own: list[torch.Tensor], real: list[torch.Tensor]) -> torch.Tensor:
    total = torch.zeros((), dtype=own[0].dtype)
    for g, h in zip(own, real, strict=True):
        if g.dim() == 1:
            continue
        for a, b in zip(g, h, strict=True):
            total = total + 1 - (a * b).sum() / (a.square().sum().sqrt() * b.square().sum().sqrt() + 1e-6)
    return total


def slow_loss(network, pixels, data, iteration, strategy="dsa") -> torch.Tensor:
    """L of two images for each of three classes, in the precision of the pixels."""
    train, total = data.train, 0.0
    for label in range(3):
        members = torch.nonzero(train.labels == label).flatten()
        chosen = members[torch.from_numpy(seeding.permutation(20, 3, "live batch", label, iteration)[:6])]
        gradients = []
        for images in (pixels[2 * label : 2 * label + 2], data.spec.normalise(train.take(chosen)).to(pixels)):
            view = dsa(images, 3, "gradient matching", label, iteration, strategy=strategy, siamese=True)
            loss = F.cross_entropy(network(view), torch.full((len(view),), label))
            gradients.append(torch.autograd.grad(loss, list(network.parameters()), create_graph=True))
        total = total + slow_distance(*gradients)
    return total


def fresh(iteration: int, block: int = 0) -> torch.nn.Module:
    return build_network(NETWORK, 3, 1, 8, seeding.stable_seed("random network", 3, block, iteration))


def state_of(method, data, dtype=torch.float32):
    (group,) = method.groups(data.spec)
    state = start_state(method, data, 3, group, method.prepare(data, DEVICE), torch.device("cpu"))
    state.pixels = torch.nn.Parameter(state.pixels.to(dtype))
    state.weights = state.weights.to(dtype)
    return state


def test_the_distance_is_that_of_a_loop_over_rows_and_skips_vectors():
    draws = torch.Generator().manual_seed(0)
    shapes = {"conv": (4, 2, 3, 3), "bias": (4,), "linear": (3, 16)}
    own, real = (
        {name: torch.randn(shape, generator=draws).double() for name, shape in shapes.items()} for _ in range(2)
    )
    expected = slow_distance(list(own.values()), list(real.values()))
    assert gradient_distance(own, real).item() == pytest.approx(expected.item(), abs=1e-12)
    assert gradient_distance(own, own | {"bias": real["bias"]}).item() == pytest.approx(0, abs=1e-4)
    opposite = {name: -each for name, each in own.items()}
    assert gradient_distance(own, opposite).item() == pytest.approx(2 * (4 + 3), abs=1e-4)


@pytest.mark.parametrize("strategy", ["none", "dsa"])
def test_loss_and_pixel_gradient_agree_with_a_loop_and_finite_differences(method, inputs, strategy):  # noqa: F811
    method = dataclasses.replace(method, strategy=strategy)
    for iteration in (0, 3):
        state = state_of(method, inputs, torch.float64)
        value = method.step(state, iteration)["gradient_distance"].item()
        network = fresh(iteration).double()
        pixels = state.pixels.detach().clone().requires_grad_()
        loss = slow_loss(network, pixels, inputs, iteration, strategy)
        assert value == pytest.approx(loss.item(), rel=1e-9)
        (expected,) = torch.autograd.grad(loss, pixels)
        assert torch.allclose(state.pixels.grad, expected, rtol=1e-6, atol=1e-9)
        for where in [(0, 0, 3, 4), (3, 0, 5, 2), (5, 0, 4, 4)]:
            step = torch.zeros_like(pixels)
            step[where] = 1e-6
            sides = (slow_loss(network, pixels.detach() + sign * step, inputs, iteration, strategy) for sign in (1, -1))
            rise = (next(sides) - next(sides)).item()
            assert state.pixels.grad[where].item() == pytest.approx(rise / 2e-6, rel=1e-4, abs=1e-6)


def test_both_sides_see_the_same_draw(method, inputs):  # noqa: F811
    """The real batch in another order has its gradient under every draw, and shifted images have not."""
    state = state_of(method, inputs, torch.float64)
    for iteration in range(12):
        real = state.shared.live_batch(1, 3, iteration).double().flip(0)
        assert method.distance(state, real, 1, iteration).item() < 0.01
        shifted = method.distance(state, real.roll(1, dims=-1), 1, iteration).item()
        assert shifted > 0.5


@pytest.mark.parametrize(("strategy", "initial"), [("none", "noise"), ("dsa", "real")])
def test_images_are_those_of_the_plain_loop(method, inputs, tmp_path, strategy, initial):  # noqa: F811
    """Three steps of each network, which is trained on the images between them, and not before the first or after the last."""
    method = dataclasses.replace(method, strategy=strategy, initial=initial)
    made = method.synthesize(inputs, run_in(tmp_path / "run"))
    spec, labels = inputs.spec, torch.tensor([0, 0, 1, 1, 2, 2])
    low, high = spec.pixel_bounds()
    if initial == "real":
        pixels = spec.normalise(inputs.train.take(random_images(inputs.train, range(3), 2, 3).flatten()))
    else:
        keys = [(3, "noise", label, slot) for label in range(3) for slot in range(2)]
        pixels = torch.stack([torch.randn(1, 8, 8, generator=seeding.generator(*key)) for key in keys])
        pixels = torch.minimum(torch.maximum(pixels, low), high)
    pixels.requires_grad_()
    sgd = torch.optim.SGD([pixels], lr=0.5, momentum=0.5)
    for iteration in range(8):
        if iteration % 3 == 0:
            network = fresh(iteration)
            inner = torch.optim.SGD(network.parameters(), lr=0.3)
        else:
            for epoch in range(2):
                order = torch.from_numpy(seeding.permutation(6, "inner order", 3, 0, iteration, epoch))
                for index, batch in enumerate([order[:4], order[4:]]):
                    images = pixels.detach()[batch]
                    views = dsa(images, "inner views", 3, 0, iteration, epoch, index, strategy=strategy)
                    inner.zero_grad()
                    F.cross_entropy(network(views), labels[batch]).backward()
                    inner.step()
        sgd.zero_grad()
        slow_loss(network, pixels, inputs, iteration, strategy).backward(inputs=[pixels])
        sgd.step()
        with torch.no_grad():
            pixels.copy_(torch.minimum(torch.maximum(pixels, low), high))
    assert nearly_equal(made.images, spec.denormalise(pixels.detach()))


def test_a_killed_run_finds_its_network_again_and_ends_with_the_same_bytes(method, inputs, tmp_path, monkeypatch):  # noqa: F811
    (group,) = method.groups(inputs.spec)
    method.synthesize(inputs, run_in(tmp_path / "whole"))
    step = GradientMatching.step

    def killed(self, state, iteration):
        if iteration == 5:
            raise KeyboardInterrupt
        return step(self, state, iteration)

    later = dataclasses.replace(method, outer_loops=8)  # one network for all steps
    later.synthesize(inputs, run_in(tmp_path / "later"))
    for each, name in ((method, "whole"), (later, "later")):
        folder = tmp_path / f"cut {name}"
        with monkeypatch.context() as patch:
            patch.setattr(GradientMatching, "step", killed)
            with pytest.raises((KeyboardInterrupt, SystemExit)):
                each.synthesize(inputs, run_in(folder))
        saved = load_point(folder / ".resume-00000.safetensors")[0]["method.weights"]
        start = torch.cat([weight.detach().flatten() for weight in fresh(0).parameters()])
        assert (saved - start).abs().max() > 0.01, "it has been trained"
        each.synthesize(inputs, run_in(folder))
        assert held(folder, group[0]) == held(tmp_path / name, group[0])


def test_blocks_train_networks_of_their_own_in_any_process(method, inputs, tmp_path, monkeypatch):  # noqa: F811
    method = dataclasses.replace(method, batch_size=3)
    whole = method.synthesize(inputs, run_in(tmp_path / "whole"))
    for rank in (1, 0):
        monkeypatch.setattr(engine, "world_size", lambda: 2)
        monkeypatch.setattr(engine, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(engine, "is_leader", lambda rank=rank: rank == 0)
        made = method.synthesize(inputs, run_in(tmp_path / "dealt"))
    assert torch.equal(made.images, whole.images)
    with pytest.raises(UserError, match="leave blocks_at_once at 1"):
        dataclasses.replace(method, blocks_at_once=2).check(None)


def test_the_networks_see_enlarged_tiles(method, inputs):  # noqa: F811
    """The gradient reaches every pixel of an image of four tiles, which count as eight images of each class."""
    state = state_of(dataclasses.replace(method, tiles=2), inputs)
    method.step(state, 0)
    assert len(state.images) == 4 * len(state.pixels) == 24
    assert (state.pixels.grad.abs().amax((1, 3)) > 0).float().mean() > 0.9


def test_the_loops_are_the_published_ones(method):
    rule = dataclasses.replace(method, outer_loops=None, inner_loops=None)
    for ipc, loops in {10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}.items():
        assert dataclasses.replace(rule, ipc=ipc).loops() == loops
    assert dataclasses.replace(rule, ipc=1).loops()[0] == 1, "so that there is no inner loop"
    assert dataclasses.replace(rule, outer_loops=4, inner_loops=0).loops() == (4, 0)


def test_batchnorm_is_refused_before_anything_is_made(method, inputs):  # noqa: F811
    method.check_data(inputs.spec)
    with pytest.raises(UserError, match="'convnet2_w4' has BatchNorm"):
        dataclasses.replace(method, network="convnet2_w4").check_data(inputs.spec)
    with pytest.raises(UserError, match="cannot be used on 1x8x8 images"):
        dataclasses.replace(method, network="convnet5_in").check_data(inputs.spec)
