"""Top-1 against counting by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from teddy.models.accuracy import top1
from teddy.runtime.precision import Compute

IMAGES = torch.randint(0, 256, (23, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(23) % 3


def normalise(images: torch.Tensor) -> torch.Tensor:
    return images.float() / 255


@pytest.mark.parametrize("training", [True, False])
def test_share_of_right_answers_in_percent(training: bool) -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.9), nn.Flatten(), nn.Linear(16, 3))
    network.train(training)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    batches = [(IMAGES[i : i + 10], LABELS[i : i + 10], "more") for i in (0, 10, 20)]
    found = top1(network, batches, normalise, 3, Compute("cpu", "float32"))
    assert all(module.training == training for module in network.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    network.eval()
    right = 0
    for image, label in zip(IMAGES, LABELS, strict=True):
        right += int(int(network(normalise(image[None])).argmax()) == int(label))
    assert 0 < right < 23
    assert found == pytest.approx(100 * right / 23, abs=1e-4)
