"""IDM against its published update written as a plain loop over torch's own networks and optimizers."""

from __future__ import annotations

import csv
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from teddy.config.build import build
from teddy.config.errors import UserError
from teddy.data.dsa import dsa
from teddy.data.tiles import enlarge_tiles
from teddy.methods.idm import IDM
from teddy.models.networks import build_network
from teddy.runtime import seeding
from teddy.runtime.resume import load_point
from teddy.synthesis.engine import start_state
from teddy.synthesis.init import real
from tests.methods.test_run import DEVICE, inputs, nearly_equal, run_in  # noqa: F401 - a fixture
from tests.synthesis.test_engine import held

NETWORK = "convnet2_w4_in"


@pytest.fixture
def method() -> IDM:
    return IDM(
        ipc=2,
        iterations=8,
        tiles=2,
        network=NETWORK,
        ce_weight=0.02,
        first=2,
        every=2,
        most=4,
        trained=2,
        train_steps=3,
        network_lr=0.1,
        network_momentum=0.9,
        network_weight_decay=0.01,
        network_batch_size=16,
        lr=0.5,
        momentum=0.5,
        strategy="dsa",
        real_images=6,
    )


def joined(number: int) -> SimpleNamespace:
    network = build_network(NETWORK, 3, 1, 8, seeding.stable_seed("random network", 3, number))
    sgd = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    return SimpleNamespace(network=network, sgd=sgd, accuracy=0.0, number=number)


def train(member: SimpleNamespace, data, *keys) -> None:
    right = 0
    for step in range(3):
        chosen = torch.from_numpy((seeding.uniform(*keys, step, samples=np.arange(16))[:, 0] * 60).astype(np.int64))
        labels = data.train.labels[chosen]
        logits = member.network(data.spec.normalise(data.train.take(chosen)))
        right += int((logits.argmax(1) == labels).sum())
        member.sgd.zero_grad()
        F.cross_entropy(logits, labels).backward()
        member.sgd.step()
    member.accuracy = 100 * right / 48


def slow_loss(network, accuracy, pixels, data, iteration) -> torch.Tensor:
    """Class by class, image by image: four tiles of two images, and six real images."""
    tiles, total = enlarge_tiles(pixels, 2), 0.0
    for label in range(3):
        members = torch.nonzero(data.train.labels == label).flatten()
        chosen = members[torch.from_numpy(seeding.permutation(20, 3, "live batch", label, iteration)[:6])]
        both = [tiles[8 * label : 8 * label + 8], data.spec.normalise(data.train.take(chosen)).to(pixels)]
        views = [dsa(images, "class means", iteration, siamese=True) for images in both]
        own, theirs = (sum(network.features(view).mean((2, 3))) / len(view) for view in views)
        ce = F.cross_entropy(network(views[0]), torch.full((8,), label))
        total = total + (own - theirs.detach()).square().sum() + 0.02 * accuracy * ce
    return total


def plain_loop(method: IDM, data):
    """Yields the pixels and the matched network before each step."""
    spec = data.spec
    low, high = spec.pixel_bounds()
    (group,) = method.groups(spec)
    pixels = real(group[0], data, 2, 3, tiles=2).requires_grad_()
    sgd = torch.optim.SGD([pixels], lr=0.5 * 2, momentum=0.5)
    queue = [joined(0), joined(1)]
    for iteration in range(8):
        if iteration in (2, 4, 6):
            new = joined(1 + iteration // 2)
            if len(queue) < 4:
                queue.append(new)
            else:
                oldest = min(range(4), key=lambda row: queue[row].number)
                queue[oldest] = new
        draws = seeding.uniform(3, "queue", iteration, draws=3)[0]
        matched, *others = (queue[int(draw * len(queue))] for draw in draws)
        for index, other in enumerate(others):
            train(other, data, 3, "queue", iteration, index)
        yield pixels, matched, iteration
        sgd.zero_grad()
        slow_loss(matched.network, matched.accuracy, pixels, data, iteration).backward(inputs=[pixels])
        sgd.step()
        with torch.no_grad():
            pixels.copy_(torch.minimum(torch.maximum(pixels, low), high))


def test_images_are_those_of_the_plain_loop(method, inputs, tmp_path):  # noqa: F811
    """The queue begins with two networks, is full with four, and then gives up its oldest."""
    made = method.synthesize(inputs, run_in(tmp_path / "run"))
    steps = list(plain_loop(method, inputs))
    assert nearly_equal(made.images, inputs.spec.denormalise(steps[-1][0].detach()))
    assert made.tiles == 2
    with (tmp_path / "run" / "terms.csv").open() as stream:
        first, last = csv.DictReader(stream)
    assert float(last["network_accuracy"]) == pytest.approx(steps[-1][1].accuracy, abs=1e-3)
    parts = float(last["class_means"]) + 0.02 * float(last["network_accuracy"]) * 3 * float(last["cross_entropy"])
    assert float(last["loss"]) == pytest.approx(parts, rel=1e-5)
    assert float(first["network_accuracy"]) != float(last["network_accuracy"])


def test_the_pixel_gradient_agrees_with_finite_differences_in_float64(method, inputs):  # noqa: F811
    (group,) = method.groups(inputs.spec)
    state = start_state(method, inputs, 3, group, method.prepare(inputs, DEVICE), torch.device("cpu"))
    for pixels, matched, iteration in plain_loop(method, inputs):
        with torch.no_grad():
            state.pixels.copy_(pixels)
        state.pixels.grad = None
        method.step(state, iteration)
        network = build_network(NETWORK, 3, 1, 8).double()
        network.load_state_dict(matched.network.state_dict())
        for where in [(0, 0, 3, 4), (3, 0, 5, 2), (5, 0, 4, 4)]:
            step = torch.zeros_like(pixels, dtype=torch.float64)
            step[where] = 1e-5
            at = pixels.detach().double()
            sides = [slow_loss(network, matched.accuracy, at + sign * step, inputs, iteration) for sign in (1, -1)]
            rise = (sides[0] - sides[1]).item()
            assert state.pixels.grad[where].item() == pytest.approx(rise / 2e-5, rel=1e-3, abs=1e-5)


def test_a_killed_run_finds_its_queue_again_and_ends_with_the_same_bytes(method, inputs, tmp_path, monkeypatch):  # noqa: F811
    (group,) = method.groups(inputs.spec)
    method.synthesize(inputs, run_in(tmp_path / "whole"))
    step = IDM.step

    def killed(self, state, iteration):
        if iteration == 5:
            raise KeyboardInterrupt
        return step(self, state, iteration)

    with monkeypatch.context() as patch:
        patch.setattr(IDM, "step", killed)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            method.synthesize(inputs, run_in(tmp_path / "cut"))
    saved = load_point(tmp_path / "cut" / ".resume-00000.safetensors")[0]
    assert saved["method.weights"].shape == saved["method.momentum"].shape
    assert (saved["method.weights"].abs().sum(1) > 0).tolist() == [True, True, True, False], "three of four joined"
    method.synthesize(inputs, run_in(tmp_path / "cut"))
    assert held(tmp_path / "cut", group[0]) == held(tmp_path / "whole", group[0])


def test_blocks_see_the_same_networks_alone_and_together(method, inputs, tmp_path):  # noqa: F811
    two = dataclasses.replace(method, batch_size=3)
    alone = two.synthesize(inputs, run_in(tmp_path / "alone"))
    together = dataclasses.replace(two, blocks_at_once=2).synthesize(inputs, run_in(tmp_path / "together"))
    assert nearly_equal(alone.images, together.images)


def test_the_queue_is_no_longer_than_it_becomes(method, inputs):  # noqa: F811
    short = dataclasses.replace(method, iterations=3, most=100)
    (group,) = short.groups(inputs.spec)
    state = start_state(short, inputs, 3, group, short.prepare(inputs, DEVICE), torch.device("cpu"))
    assert len(state.weights) == 3


def test_mistakes_are_found_before_anything_is_made(method, inputs):  # noqa: F811
    method.check(None)
    method.check_data(inputs.spec)
    with pytest.raises(UserError, match="most=4 networks cannot begin with first=5"):
        dataclasses.replace(method, first=5).check(None)
    with pytest.raises(UserError, match="'convnet2_w4' has BatchNorm"):
        dataclasses.replace(method, network="convnet2_w4").check_data(inputs.spec)
    with pytest.raises(UserError, match="cannot hold 3 x 3 tiles"):
        dataclasses.replace(method, tiles=3).check_data(inputs.spec)
    node = {"_target_": "teddy.methods.idm.IDM", **dataclasses.asdict(method)}
    with pytest.raises(UserError, match=r"methods\.idm\.augmentations=4"):
        build("methods.idm", node | {"augmentations": 4})
    with pytest.raises(UserError, match=r"methods\.idm\.real_images=0"):
        build("methods.idm", node | {"real_images": 0})
