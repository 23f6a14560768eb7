"""The time that a run is said to take."""

from __future__ import annotations

import pytest
import torch

from teddy import estimate as module
from teddy.config.command import check_jobs, read_command
from teddy.config.schema import register_schemas
from teddy.data.dataset import RealDataset
from teddy.data.sources.embedded import FashionMini
from teddy.plan import make_plan
from teddy.runtime.device import resolve_device

register_schemas()
DEVICE = resolve_device("cpu", "32-true")


def test_the_steps_of_every_stage_are_counted(monkeypatch):
    """2,000 images in ten classes, at a millisecond for each image of a step."""
    monkeypatch.setattr(module, "_step", lambda network, shape, device: shape[0] / 1000)
    words = ("+experiment=own_data", "dataset=fashion_mini", "synthesis.ipc=10", "evaluation.seeds=3")
    (config,) = check_jobs(read_command(words))
    plan = make_plan(config)
    found = module.estimate(config, plan.methods, RealDataset("mini", FashionMini()), DEVICE)
    teachers = 30 * 32 * 64  # epochs of 31 1/4 batches
    bank = 16 * 4 * 2000 / 3  # augmentations and teachers, forward only
    students = 2 * 3 * 300 * 100  # methods, seeds, epochs, images
    assert found - module.BESIDE == pytest.approx((teachers + bank + 1000 * 100 + students) / 1000)


def test_a_step_of_many_images_takes_longer():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 300))
    few, many = (module._step(network, (count, 3, 32, 32), DEVICE) for count in (2, 2000))
    assert 0 < few < many
