"""Eq. 7 through the engine against the same optimisation written as a plain loop; and random real images."""

from __future__ import annotations

import contextlib
import dataclasses
from types import SimpleNamespace

import pytest
import torch

from teddy.artifacts.store import ArtifactStore
from teddy.config.errors import UserError
from teddy.data.dataset import RealDataset
from teddy.methods.batchnorm import MeasuredTeacher
from teddy.methods.classwise import ClassWise
from teddy.methods.random import Random
from teddy.methods.teddy import Teddy, choose_teachers, teacher_terms
from teddy.models.networks import build_network
from teddy.pool.members import Member, ModelPool
from teddy.runtime.device import DeviceConfig
from teddy.runtime.loggers import RunLog
from teddy.runtime.resume import save_tensors
from teddy.synthesis.init import random_images, real
from teddy.synthesis.method import Inputs, Run
from teddy.synthesis.views import BlockView
from tests.synthesis.conftest import ToySource

DEVICE = DeviceConfig("cpu", "32-true")


@pytest.fixture
def inputs(tmp_path) -> Inputs:
    dataset = RealDataset("toy", ToySource(), mean=[0.4], std=[0.3])
    members = []
    for seed in range(4):
        network = build_network("convnet2_w4", 3, 1, 8, seed=seed)
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_var.fill_(0.5 + 0.1 * seed)
        path = tmp_path / f"teacher-{seed}.safetensors"
        save_tensors(path, network.state_dict())
        members.append(Member("convnet2_w4", path, seed + 1, f"toy/{seed}", 50.0))
    pool = ModelPool(tuple(members), dataset.spec, "toy")
    return Inputs(dataset, ArtifactStore(tmp_path / "store"), lambda: pool)


@pytest.fixture
def method() -> Teddy:
    return Teddy(
        ipc=4,
        iterations=7,
        initial="real",
        batch_size=6,
        lr=0.1,
        betas=(0.5, 0.9),
        weight_decay=0.01,
        ce_weight=1.0,
        bn_weight=0.5,
        first_bn_weight=10.0,
        teachers_per_block=2,
        teacher_policy="iteration",
        view=BlockView(crop=True, min_scale=0.5, flip=True, shift=1),
        compile=False,
    )


def plain_loop(method: Teddy, inputs: Inputs) -> torch.Tensor:
    """All images by class and slot, with torch's own cosine schedule and one backward of the summed loss."""
    spec = inputs.spec
    low, high = spec.pixel_bounds()
    images = torch.empty(3 * method.ipc, 1, 8, 8, dtype=torch.uint8)
    for group in method.groups(spec):
        for block in group:
            pixels = real(block, inputs, method.ipc, 3).requires_grad_()
            adam = torch.optim.Adam([pixels], lr=method.lr, betas=method.betas, weight_decay=0.01)
            cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=method.iterations)
            for iteration in range(method.iterations):
                chosen = choose_teachers(method.teacher_policy, block, iteration, 4, 2, 3)
                view = method.view(pixels, 3, block.index, iteration)
                labels = torch.tensor(block.classes)
                teachers = [MeasuredTeacher(inputs.pool.load(member)) for member in chosen]
                terms = [teacher_terms(teacher, 10.0, view, labels) for teacher in teachers]
                loss = sum(1.0 * ce + 0.5 * bn for ce, bn in terms)
                adam.zero_grad()
                loss.backward()
                adam.step()
                cosine.step()
                with torch.no_grad():
                    pixels.copy_(torch.minimum(torch.maximum(pixels, low), high))
            done = spec.denormalise(pixels.detach())
            for label, slot, image in zip(block.classes, block.slots, done, strict=True):
                images[method.ipc * label + slot] = image
    return images


def nearly_equal(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    # Adam divides by the root of tiny second moments, so a rounding difference may move a pixel by one level.
    return bool((ours.int() - theirs.int()).abs().max() <= 1 and (ours == theirs).float().mean() > 0.99)


def run_in(folder) -> Run:
    folder.mkdir(exist_ok=True)
    return Run(folder, DEVICE, seed=3, log=RunLog(folder), checkpoint_every=3, snapshot_every=4)


def test_images_are_those_of_the_plain_loop(method, inputs, tmp_path):
    made = method.synthesize(inputs, run_in(tmp_path / "run"))
    assert nearly_equal(made.images, plain_loop(method, inputs))


@pytest.mark.parametrize("policy", ["block", "iteration"])
def test_blocks_together_are_those_of_one_at_a_time(method, inputs, tmp_path, policy):
    """Six images per block, and a last block of three that goes alone."""
    one = dataclasses.replace(method, ipc=5, teacher_policy=policy)
    several = dataclasses.replace(one, blocks_at_once=2)
    assert [len(group) for group in several.groups(inputs.spec)] == [2, 1]
    alone = one.synthesize(inputs, run_in(tmp_path / "alone"))
    together = several.synthesize(inputs, run_in(tmp_path / "together"))
    assert nearly_equal(alone.images, together.images)


def test_a_balanced_bn_term_is_as_large_as_the_cross_entropy_of_the_first_images(method, inputs, tmp_path):
    balanced = dataclasses.replace(method, bn_balance=True, bn_weight=0.5, blocks_at_once=2)
    balanced.synthesize(inputs, run_in(tmp_path / "run"))
    rows = [list(map(float, line.split(","))) for line in (tmp_path / "run" / "terms.csv").read_text().splitlines()[1:]]
    firsts = [row for row in rows if row[1] == 0]
    assert len(firsts) == 2
    for _, _, loss, ce, bn in firsts:
        assert bn > 2 * ce
        assert loss == pytest.approx(1.5 * ce, rel=1e-4)
    assert balanced.content() != dataclasses.replace(balanced, bn_balance=False).content()


def test_a_run_with_a_balanced_bn_term_goes_on_to_the_same_images(method, inputs, tmp_path, monkeypatch):
    method = dataclasses.replace(method, bn_balance=True)
    whole = method.synthesize(inputs, run_in(tmp_path / "whole"))
    step, calls = Teddy.step, []

    def stop(self, state, iteration):
        calls.append(iteration)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return step(self, state, iteration)

    monkeypatch.setattr(Teddy, "step", stop)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        method.synthesize(inputs, run_in(tmp_path / "killed"))
    assert torch.equal(method.synthesize(inputs, run_in(tmp_path / "killed")).images, whole.images)


def test_balanced_statistics_change_the_images_and_need_real_ones(method, inputs, tmp_path):
    balanced = dataclasses.replace(method, initial="noise", balanced=8)
    assert balanced.needs().data
    assert balanced.content() != dataclasses.replace(balanced, balanced=0).content()
    made = balanced.synthesize(inputs, run_in(tmp_path / "run"))
    plain = dataclasses.replace(balanced, balanced=0).synthesize(inputs, run_in(tmp_path / "plain"))
    assert not nearly_equal(made.images, plain.images)


def test_fields_that_were_added_later_leave_older_fingerprints_as_they_were(method):
    assert not {"tiles", "bn_balance", "balanced"} & method.content().keys()


def test_needs_teachers_and_real_images_only_to_start_from_them(method):
    assert (method.needs().pool, method.needs().data) == (True, True)
    noise = dataclasses.replace(method, initial="noise")
    assert (noise.needs().pool, noise.needs().data) == (True, False)


@pytest.mark.parametrize(
    ("network", "depth", "bn_weight", "wrong"),
    [
        ("convnet2_w4_in", 1, 0.1, "no BatchNorm layer to match"),
        ("convnet2_w4", 4, 0.0, "has 3 layers with weights, not 4"),
        ("convnet2_w4", 3, 0.1, None),
    ],
)
def test_a_pool_whose_network_cannot_be_matched_is_refused_before_it_is_trained(
    method, network, depth, bn_weight, wrong
):
    base = SimpleNamespace(build_network=lambda: build_network(network, 3, 1, 8))
    pool = SimpleNamespace(trainings=lambda base: [])
    options = dict(ipc=1, iterations=1, lr=1.0, momentum=0.0, strategy="dsa", augmentations=1, real_images=1)
    classwise = ClassWise(**options, depth=depth, bn_weight=bn_weight, ce_weight=0.0)
    for one in [classwise] if depth == 4 else [classwise, method]:
        with pytest.raises(UserError, match=wrong) if wrong else contextlib.nullcontext():
            one.check_run(pool, base)


def test_random_is_the_first_images_of_a_seeded_order(inputs, tmp_path):
    made = Random(ipc=2).synthesize(inputs, run_in(tmp_path / "run"))
    chosen = random_images(inputs.train, range(3), 2, 3).flatten()
    assert torch.equal(made.images, inputs.train.take(chosen))
    assert made.labels.tolist() == [0, 0, 1, 1, 2, 2]
