"""A: a step of synthesis, beside the bare passes through the same teachers and beside the usual script."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks.fits import InsideFit, fit
from benchmarks.setting import Setting, made_up_images, made_up_pool, made_up_spec
from benchmarks.straightforward import StraightforwardLoss, StraightforwardStep
from benchmarks.timing import Row, Turns, Work, at_most, compare
from teddy.pool.members import ModelPool
from teddy.runtime.precision import Compute
from teddy.runtime.progress import ProgressCallback
from teddy.synthesis.initial import noise
from teddy.synthesis.job import SynthesisJob
from teddy.synthesis.module import PixelSynthesis
from teddy.synthesis.objective import Weights
from teddy.synthesis.perturb import BlockView

ABOVE_FLOOR = at_most(1.10)
TIMES_FASTER = at_most(0.40)  # 2.5 times faster
MIN_SCALE = 0.08


@dataclass(frozen=True)
class Case:
    """What is optimised, and whether the usual script is timed as well."""

    network: str
    size: int
    batch: int
    teachers: int
    script: bool

    @property
    def words(self) -> str:
        return f"{self.network}, {self.size} px, batch {self.batch}, n={self.teachers}"


CASES = (
    Case("resnet18_cifar", 32, 50, 3, script=True),
    Case("resnet18_cifar", 32, 100, 3, script=True),
    Case("resnet18", 224, 10, 1, script=False),
)


def rows(setting: Setting) -> Iterator[Row]:
    for case in CASES[:1] if setting.quick else CASES:
        folder = setting.scratch(f"synthesis-{case.network}-{case.batch}")
        pool = made_up_pool(setting.folder, case.network, made_up_spec(case.size), case.teachers)
        references = [floor(pool, case.batch, setting.compute)]
        if case.script:
            references.append(script(made_up_job(pool, case.batch, 1), setting.device))
        turns = Turns(references, setting.device, setting.rounds, per_round=setting.steps(1))
        ours, others = timed(pool, case.batch, turns, setting.compute, folder)
        yield compare(f"synthesis step, {case.words}: floor (s)", ours, others[0], ABOVE_FLOOR)
        if case.script:
            yield compare(f"synthesis step, {case.words}: usual script (s)", ours, others[1], TIMES_FASTER)


def timed(pool: ModelPool, batch: int, turns: Turns, compute: Compute, folder: Path) -> tuple[float, list[float]]:
    """Seconds of a step of a real fit over one block, with all that Lightning and the module do; and of the references."""
    inside = InsideFit(turns)
    job = made_up_job(pool, batch, inside.length)
    module = PixelSynthesis(job, job.blocks(), folder)
    return fit(module, inside, compute, folder, "synthesis", 1, [ProgressCallback("synthesis", inside.length)])


def made_up_job(pool: ModelPool, batch: int, iterations: int, teachers: int | None = None) -> SynthesisJob:
    """One block of ``batch`` images, with the settings of ``conf/synthesis/teddy.yaml``."""
    ipc = batch // pool.spec.num_classes
    return SynthesisJob(
        pool=pool,
        train=made_up_images(pool.spec, pool.spec.num_classes),
        ipc=ipc,
        iterations=iterations,
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
    )


def floor(pool: ModelPool, batch: int, compute: Compute) -> Work:
    """Forward and gradient with respect to the images of each teacher in turn, in the run's precision: no statistics, no loss,
    no view, no optimizer."""
    teachers = [pool.load(index, compute.device) for index in range(len(pool))]
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
