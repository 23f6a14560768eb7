"""The student probe: it learns what its images and labels say."""

from types import SimpleNamespace

import pytest
import torch

from teddy.data.images import TensorImages
from teddy.data.spec import DatasetSpec
from teddy.runtime.loggers import RunLog
from teddy.synthesis import probe
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


def test_a_run_that_goes_on_from_an_earlier_point_measures_each_iteration_once(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "STEPS", 1)
    images = halves(20, 0)
    block = SimpleNamespace(index=0)
    state = SimpleNamespace(blocks=[block], images=spec.normalise(images.images), labels=images.labels)
    module = SimpleNamespace(state=state, spec=spec, first=0)
    trainer = SimpleNamespace(logger=RunLog(tmp_path).stage("synthesis/x"))
    for iterations in (range(6), range(3, 4)):  # killed after the sixth, and gone on from the third
        for iteration in iterations:
            StudentProbe(2, halves(20, 1), "x").on_train_batch_end(trainer, module, None, iteration, iteration)
    rows = (tmp_path / "probe_x.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows] == ["iteration", "1", "2", "4"]
