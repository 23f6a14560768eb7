"""The student probe: it learns what its images and labels say."""

import pytest
import torch

from teddy.data.images import TensorImages
from teddy.data.spec import DatasetSpec
from teddy.synthesis.probe import StudentProbe


def halves(count, seed):
    """Images whose left (class 0) or right half (class 1) is bright, with noise, uint8 (count, 1, 16, 16), and their classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.randint(0, 100, (count, 1, 16, 16), generator=generator)
    for image, label in zip(images, labels, strict=True):
        image[..., 8 * label : 8 * label + 8] += 120
    return TensorImages(images.to(torch.uint8), labels)


@pytest.fixture(scope="module")
def spec():
    return DatasetSpec("halves", 2, 1, 16, (0.5,), (0.25,), ("left", "right"), ("left", "right"))


@pytest.mark.parametrize(("swapped", "low", "high"), [(False, 95, 100), (True, 0, 5)])
def test_a_student_learns_what_its_labels_say(spec, swapped, low, high):
    images, held = halves(20, 0), halves(200, 1)
    labels = 1 - images.labels if swapped else images.labels
    state = torch.random.get_rng_state()
    top1 = StudentProbe(1, held, "x").measure(spec.normalise(images.images), labels, spec, 1)
    assert low <= top1 <= high
    assert torch.equal(torch.random.get_rng_state(), state)
