"""DM against its published update written as a plain loop over live batches."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from teddy.config.errors import UserError
from teddy.data.dsa import dsa
from teddy.methods.dm import DM
from teddy.models.networks import build_network
from teddy.runtime import seeding
from teddy.synthesis.init import random_images
from teddy.synthesis.optimized import State
from tests.methods.test_run import DEVICE, inputs, nearly_equal, run_in  # noqa: F401 - a fixture


@pytest.fixture
def method() -> DM:
    return DM(
        ipc=2,
        iterations=8,
        network="convnet2_w4_in",
        count=0,
        lr=0.5,
        momentum=0.5,
        strategy="dsa",
        augmentations=0,
        real_images=6,
    )


def test_images_are_those_of_the_plain_loop(method, inputs, tmp_path):  # noqa: F811
    made = method.synthesize(inputs, run_in(tmp_path / "run"))
    train, spec = inputs.train, inputs.spec
    low, high = spec.pixel_bounds()
    pixels = spec.normalise(train.take(random_images(train, range(3), 2, 3).flatten())).requires_grad_()
    sgd = torch.optim.SGD([pixels], lr=0.5 * 2, momentum=0.5)
    for iteration in range(8):
        network = build_network("convnet2_w4_in", 3, 1, 8, seeding.stable_seed("random network", 3, iteration))
        loss = 0.0
        for label in range(3):
            members = torch.nonzero(train.labels == label).flatten()
            chosen = members[torch.from_numpy(seeding.permutation(20, 3, "live batch", label, iteration)[:6])]
            both = [spec.normalise(train.take(chosen)), pixels[2 * label : 2 * label + 2]]
            views = [dsa(images, "class means", iteration, siamese=True) for images in both]
            real, own = (network.features(view).flatten(1).mean(0) for view in views)
            loss = loss + (own - real.detach()).square().sum()
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        with torch.no_grad():
            pixels.copy_(torch.minimum(torch.maximum(pixels, low), high))
    assert nearly_equal(made.images, spec.denormalise(pixels.detach()))


def test_a_bank_of_random_networks_has_the_same_form(method, inputs, tmp_path):  # noqa: F811
    banked = dataclasses.replace(method, count=3, augmentations=2, iterations=60)
    banked.synthesize(inputs, run_in(tmp_path / "run"))
    rows = [line.split(",") for line in (tmp_path / "run" / "terms.csv").read_text().splitlines()]
    values = [float(row[2]) for row in rows[1:]]
    assert values[-1] < 0.8 * values[0]
    assert len(list((tmp_path / "store" / "bank").iterdir())) == 3, "one for each network"


def test_each_network_of_a_bank_sees_other_augmentations(method, inputs):  # noqa: F811
    banked = dataclasses.replace(method, count=3, augmentations=1)
    state = State([], torch.nn.Parameter(torch.zeros(1)), torch.zeros(1), 3, banked.prepare(inputs, DEVICE), 1)
    draws = {network.number: draw for network, _, draw in (banked.choose(state, i) for i in range(30))}
    assert draws == {1: 1, 2: 2, 3: 3}


def test_new_networks_have_no_bank(method):
    with pytest.raises(UserError, match="no bank can be measured"):
        dataclasses.replace(method, augmentations=4).check(None)
