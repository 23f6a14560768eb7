"""The KL divergence between students and teachers, against torch's distributions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from teddy.data.images import TensorImages
from teddy.data.spec import DatasetSpec
from teddy.evaluation.divergence import Divergence
from teddy.models.networks import build_network
from teddy.pool.members import Member, ModelPool
from teddy.runtime.device import DeviceConfig
from teddy.runtime.resume import save_tensors

NETWORK = "convnet2_w8"
SPEC = DatasetSpec("dots", 4, 1, 8, (0.5,), (0.25,), ("a", "b", "c", "d"), ("0", "1", "2", "3"))


def pool(folder: Path, epochs: list[float]) -> ModelPool:
    members = []
    for seed, epoch in enumerate(epochs):
        file = folder / f"{seed}.safetensors"
        save_tensors(file, build_network(NETWORK, 4, 1, 8, seed=seed).state_dict(), {})
        members.append(Member(NETWORK, file, epoch, f"t/{seed}", 0.0))
    return ModelPool(tuple(members), SPEC, "prior")


def images() -> TensorImages:
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randint(0, 256, (13, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return TensorImages(pixels, torch.zeros(13))


def test_each_teacher_has_its_divergence_from_the_student(tmp_path):
    teachers, device_config = pool(tmp_path, [1, 6, 6]), DeviceConfig("cpu", "32-true")
    student = build_network(NETWORK, 4, 1, 8, seed=9)
    measure = Divergence(teachers, images, {"heldout": "x"}, device_config)
    found = measure(student)

    student.eval().requires_grad_(False)
    inputs = SPEC.normalise(images().images)
    mine = Categorical(logits=student(inputs))
    expected = [float(kl_divergence(mine, Categorical(logits=teachers.load(i)(inputs))).mean()) for i in range(3)]
    assert list(found) == ["epoch 1", "epoch 6", "epoch 6 #2"]
    assert list(found.values()) == pytest.approx(expected, abs=2e-5)
    assert Divergence(teachers, images, {}, device_config)(teachers.load(1))["epoch 6"] == 0.0


def test_the_student_is_left_as_it_was(tmp_path):
    student = build_network(NETWORK, 4, 1, 8, seed=9).train()
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    Divergence(pool(tmp_path, [1]), images, {}, DeviceConfig("cpu", "32-true"))(student)
    assert student.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())


def test_the_identity_names_teachers_and_images(tmp_path):
    device_config = DeviceConfig("cpu", "32-true")
    some = [
        Divergence(pool(tmp_path, [1]), images, {"heldout": "x"}, device_config).identity,
        Divergence(pool(tmp_path, [1, 2]), images, {"heldout": "x"}, device_config).identity,
        Divergence(pool(tmp_path, [1]), images, {"heldout": "y"}, device_config).identity,
    ]
    assert all(one != other for i, one in enumerate(some) for other in some[:i])
