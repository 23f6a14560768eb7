"""A step of synthesis, beside the bare passes through the same teachers and beside the usual script."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import nn

from benchmarks.fits import InsideFit, fit, quiet
from benchmarks.setting import CLASSES, Setting, made_up_pool, made_up_spec
from benchmarks.straightforward import StraightforwardLoss, StraightforwardStep
from benchmarks.timing import Row, Turns, Work, compare, interleaved
from teddy.methods.teddy import Teddy
from teddy.pool.members import ModelPool
from teddy.runtime.device import DeviceConfig
from teddy.runtime.progress import StageProgress
from teddy.synthesis.engine import start_state
from teddy.synthesis.method import Inputs
from teddy.synthesis.module import GroupProgress, PixelCheckpoint, PixelSynthesis, Snapshots
from teddy.synthesis.optimized import OptimizedMethod, State
from teddy.synthesis.views import BlockView

ABOVE_FLOOR = 1.10
COMPILED = 1.00
OF_SCRIPT = 0.40  # 2.5 times faster
OF_ONE_BLOCK = 1.11  # 0.9 of the images per second


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
    def title(self) -> str:
        how = ", compiled" if self.compile else ""
        return f"{self.network}, {self.size} px, batch {self.batch}, n={self.teachers}{how}"


CASES = (
    Case("resnet18_cifar", 32, 50, 3, script=True),
    Case("resnet18_cifar", 32, 100, 3, script=True),
    Case("resnet18", 224, 10, 3),
    Case("resnet18_cifar", 32, 50, 3, compile=True),
)
ON_A_GPU = Case("resnet18", 224, 100, 3)  # a block of ImageNet-1K, from which docs/scaling.md counts on


def rows(setting: Setting) -> Iterator[Row]:
    device_config = setting.device_config
    cases = (*CASES, ON_A_GPU) if device_config.accelerator == "cuda" else CASES
    for case in CASES[:1] if setting.quick else cases:
        folder = setting.scratch(f"synthesis-{case.network}-{case.batch}-{case.compile}")
        pool = made_up_pool(setting.folder, case.network, made_up_spec(case.size), case.teachers)
        references = [floor(pool, case.batch, device_config)]
        if case.script:
            references.append(script(pool, case.batch, setting.device))
        turns = Turns(references, setting.device, setting.rounds, per_round=setting.steps(1))
        method = eq7(case.batch, case.teachers, turns.length, compile=case.compile)
        ours, others = timed(method, pool, turns, device_config, folder)
        limit = COMPILED if case.compile else ABOVE_FLOOR
        yield compare(f"synthesis step, {case.title}: floor (s)", ours, others[0], limit)
        if case.script:
            yield compare(f"synthesis step, {case.title}: usual script (s)", ours, others[1], OF_SCRIPT)
    yield side_by_side(setting)


def side_by_side(setting: Setting) -> Row:
    """Small blocks that go through the teachers together, beside one block of as many images."""
    device_config = setting.device_config
    pool = made_up_pool(setting.folder, "convnet3", made_up_spec(32), 3)
    count, size = 10, 10 if device_config.accelerator == "cpu" else 100
    alone = gradient_step(eq7(count * size, 3), pool, device_config)
    together = gradient_step(eq7(size, 3, ipc=count * size // CLASSES, blocks_at_once=count), pool, device_config)
    reference, ours = interleaved([alone, together], device_config.device, setting.rounds, setting.steps(1))
    what = f"{count} blocks of {size} at once, convnet3, 32 px, n=3: one block of {count * size} (s)"
    return compare(what, ours, reference, OF_ONE_BLOCK)


def gradient_step(method: OptimizedMethod, pool: ModelPool, device_config: DeviceConfig) -> Work:
    """The first group's gradients, without Lightning, optimizer and clamp."""
    state = first_state(method, pool, device_config)

    def work() -> None:
        state.pixels.grad = None
        with device_config.autocast():
            method.step(state, 0)

    return work


def first_state(method: OptimizedMethod, pool: ModelPool, device_config: DeviceConfig) -> State:
    """The first group of blocks before its first iteration."""
    inputs = inputs_of(pool)
    shared = method.prepare(inputs, device_config)
    return start_state(method, inputs, 0, method.groups(pool.spec)[0], shared, device_config.device)


def inputs_of(pool: ModelPool) -> Inputs:
    """A pool without real images."""
    return Inputs(cast(Any, SimpleNamespace(spec=pool.spec)), cast(Any, None), lambda: pool)


def timed(
    method: OptimizedMethod, pool: ModelPool, turns: Turns, device_config: DeviceConfig, folder: Path
) -> tuple[float, list[float]]:
    """Seconds of a step of a real fit over the first group, with all that Lightning and the engine do; and of the references."""
    module = PixelSynthesis(method, first_state(method, pool, device_config), pool.spec)
    progress = StageProgress("synthesis", total=method.iterations, unit="steps")
    callbacks = [GroupProgress(progress), Snapshots(folder, 1000), PixelCheckpoint(folder / "resume.safetensors", 500)]
    with quiet(), progress:
        return fit(module, InsideFit(turns), device_config, folder, "synthesis", callbacks, log_every=1, single=True)


def eq7(batch: int, teachers: int, iterations: int = 1, **options: Any) -> Teddy:
    """One block of ``batch`` images with the settings of ``conf/synthesis/default.yaml``."""
    fields: dict[str, Any] = {
        "ipc": batch // CLASSES,
        "iterations": iterations,
        "initial": "noise",
        "batch_size": batch,
        "lr": 0.25,
        "betas": (0.5, 0.9),
        "weight_decay": 0.0,
        "ce_weight": 1.0,
        "bn_weight": 0.01,
        "first_bn_weight": 10.0,
        "teachers_per_block": teachers,
        "teacher_policy": "block",
        "view": BlockView(crop=True, min_scale=0.08, flip=True, shift=32),
        "compile": False,
    }
    return Teddy(**fields | options)


def floor(pool: ModelPool, batch: int, device_config: DeviceConfig) -> Work:
    """Forward and gradient with respect to the images of each teacher in turn, in the run's precision: no statistics, no loss,
    no view, no optimizer."""
    teachers = pool.load_teachers(device_config)
    spec = pool.spec
    images = torch.randn(batch, spec.channels, spec.size, spec.size, generator=torch.Generator().manual_seed(1))
    images = images.to(device_config.device).contiguous(memory_format=torch.channels_last).requires_grad_()

    def work() -> None:
        with device_config.autocast():
            for teacher in teachers:
                logits = teacher(images)
                torch.autograd.grad(logits, images, torch.ones_like(logits))

    return work


def script(pool: ModelPool, batch: int, device: torch.device) -> Work:
    """The usual script's step on the same block and teachers."""
    method = eq7(batch, len(pool))
    (block,) = method.groups(pool.spec)[0]
    start = start_state(method, inputs_of(pool), 0, [block], None, device)
    teachers: list[nn.Module] = [
        pool.load(index, device).to(memory_format=torch.contiguous_format) for index in range(len(pool))
    ]
    low, high = (bound.to(device) for bound in pool.spec.pixel_bounds())
    return StraightforwardStep(
        StraightforwardLoss(teachers, method.ce_weight, method.bn_weight, method.first_bn_weight),
        start.pixels,
        start.labels,
        (low, high),
        method.lr,
        method.betas,
        method.view.min_scale,
        method.view.shift,
    )
