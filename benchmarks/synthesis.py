"""A: a step of synthesis, beside the bare passes through the same teachers and beside the usual script."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import record_function

from benchmarks.fits import InsideFit, fit
from benchmarks.setting import CLASSES, Setting, made_up_images, made_up_pool, made_up_spec
from benchmarks.straightforward import StraightforwardLoss, StraightforwardStep
from benchmarks.timing import Row, Turns, Work, at_most, compare, interleaved
from teddy.pool.members import ModelPool
from teddy.runtime.precision import Compute
from teddy.runtime.progress import ProgressCallback
from teddy.synthesis.initial import noise
from teddy.synthesis.job import SynthesisJob
from teddy.synthesis.module import PixelSynthesis, views_of
from teddy.synthesis.objective import Weights, ensemble_gradient, summands
from teddy.synthesis.perturb import BlockView

ABOVE_FLOOR = at_most(1.10)
COMPILED = at_most(1.00)
TIMES_FASTER = at_most(0.40)  # 2.5 times faster
OF_THROUGHPUT = at_most(1.11)  # 0.9 of the images per second
MIN_SCALE = 0.08
VIEW = "view of the images"
"""What the profile calls this part of a step."""


@dataclass(frozen=True)
class Case:
    """What is optimised, how, and whether the usual script is timed as well."""

    network: str
    size: int
    batch: int
    teachers: int
    script: bool = False
    compile: bool = False

    @property
    def words(self) -> str:
        how = ", compiled" if self.compile else ""
        return f"{self.network}, {self.size} px, batch {self.batch}, n={self.teachers}{how}"


CASES = (
    Case("resnet18_cifar", 32, 50, 3, script=True),
    Case("resnet18_cifar", 32, 100, 3, script=True),
    Case("resnet18", 224, 10, 3),
    Case("resnet18_cifar", 32, 50, 3, compile=True),
)


def rows(setting: Setting) -> Iterator[Row]:
    for case in CASES[:1] if setting.quick else CASES:
        folder = setting.scratch(f"synthesis-{case.network}-{case.batch}-{case.compile}")
        pool = made_up_pool(setting.folder, case.network, made_up_spec(case.size), case.teachers)
        references = [floor(pool, case.batch, setting.compute)]
        if case.script:
            references.append(script(made_up_job(pool, case.batch, 1), setting.device))
        turns = Turns(references, setting.device, setting.rounds, per_round=setting.steps(1))
        ours, others = timed(pool, case.batch, turns, setting.compute, folder, compile=case.compile)
        goal = COMPILED if case.compile else ABOVE_FLOOR
        yield compare(f"synthesis step, {case.words}: floor (s)", ours, others[0], goal)
        if case.script:
            yield compare(f"synthesis step, {case.words}: usual script (s)", ours, others[1], TIMES_FASTER)

    yield full_device(setting)


def full_device(setting: Setting) -> Row:
    """Small blocks that go through the teachers together, beside one block of as many images: both fill the device alike."""
    compute = setting.compute
    pool = made_up_pool(setting.folder, "convnet3", made_up_spec(32), 3)
    small, size = 10, 10 if compute.accelerator == "cpu" else 100
    (_, alone), (_, together) = (
        gradient_step(
            replace(made_up_job(pool, batch, 1), ipc=small * size // CLASSES, blocks_at_once=at_once), compute
        )
        for batch, at_once in ((small * size, 1), (size, small))
    )
    reference, ours = interleaved([alone, together], compute.device, setting.rounds, per_round=setting.steps(1))
    what = f"{small} blocks of {size} at once, convnet3, 32 px, n=3: one block of {small * size} (s)"
    return compare(what, ours, reference, OF_THROUGHPUT)


def gradient_step(job: SynthesisJob, compute: Compute) -> tuple[torch.Tensor, Work]:
    """The pixels of a job's first group, and the work that adds the gradient of Eq. 7 on a view of them to their own."""
    group = job.groups()[0]
    networks = [job.pool.load(index, compute.device, compute.frozen_weights) for index in range(len(job.pool))]
    plan = [(summand, range(len(group))) for summand in summands(networks, job.weights)]
    start = [noise(block, job.pool.spec, job.train, job.ipc, job.seed) for block in group]
    pixels = torch.cat(start).to(compute.device).contiguous(memory_format=torch.channels_last).requires_grad_()
    labels = torch.tensor([label for block in group for label in block.classes], device=compute.device)

    def work() -> None:
        with record_function(VIEW):
            view = views_of(job, group, pixels, 0)
        with compute.autocast():
            gradient, _ = ensemble_gradient(plan, view, labels, len(group))
        with record_function(VIEW):
            view.backward(gradient)

    return pixels, work


def timed(
    pool: ModelPool, batch: int, turns: Turns, compute: Compute, folder: Path, **options: Any
) -> tuple[float, list[float]]:
    """Seconds of a step of a real fit over one block, with all that Lightning and the module do; and of the references."""
    inside = InsideFit(turns)
    job = replace(made_up_job(pool, batch, inside.length), **options)
    module = PixelSynthesis(job, job.groups(), folder, compute.frozen_weights)
    return fit(module, inside, compute, folder, "synthesis", 1, [ProgressCallback("synthesis", inside.length)])


def made_up_job(pool: ModelPool, batch: int, iterations: int, teachers: int | None = None) -> SynthesisJob:
    """One block of ``batch`` images, with the settings of ``conf/synthesis/teddy.yaml``."""
    ipc = batch // pool.spec.num_classes
    return SynthesisJob(
        pool=pool,
        train=made_up_images(pool.spec, pool.spec.num_classes),
        ipc=ipc,
        iterations=iterations,
        plateau=None,
        lr=0.25,
        betas=(0.5, 0.9),
        weight_decay=0.0,
        weights=Weights(),
        batch_size=batch,
        class_order="consecutive",
        teachers_per_block=teachers or len(pool),
        teacher_policy="block",
        initial="noise",
        view=BlockView(crop=True, min_scale=MIN_SCALE, flip=True, shift=32, per_image=False),
        seed=0,
        checkpoint_every=500,
        sheet_every=1000,
        blocks_at_once=1,
        compile=False,
    )


def floor(pool: ModelPool, batch: int, compute: Compute) -> Work:
    """Forward and gradient with respect to the images of each teacher in turn, in the run's precision: no statistics, no loss,
    no view, no optimizer."""
    teachers = [pool.load(index, compute.device, compute.frozen_weights) for index in range(len(pool))]
    spec = pool.spec
    images = torch.randn(batch, spec.channels, spec.size, spec.size, generator=torch.Generator().manual_seed(1))
    images = images.to(compute.device).contiguous(memory_format=torch.channels_last).requires_grad_()

    def work() -> None:
        with compute.autocast():
            for teacher in teachers:
                logits = teacher(images)
                torch.autograd.grad(logits, images, torch.ones_like(logits))

    return work


def script(job: SynthesisJob, device: torch.device) -> Work:
    """The usual script's step on the job's first block."""
    block, spec, weights = job.blocks()[0], job.pool.spec, job.weights
    low, high = (bound.to(device) for bound in spec.pixel_bounds())
    teachers: list[nn.Module] = [
        job.pool.load(index, device).to(memory_format=torch.contiguous_format) for index in range(len(job.pool))
    ]
    return StraightforwardStep(
        StraightforwardLoss(teachers, weights.ce, weights.bn, weights.first_bn),
        noise(block, spec, job.train, job.ipc, job.seed).to(device),
        torch.tensor(block.classes, device=device),
        (low, high),
        job.lr,
        job.betas,
        MIN_SCALE,
        job.view.shift,
    )
