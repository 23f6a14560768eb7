"""Where the time of one synthesis step goes: `python -m benchmarks.profile_step [--device cpu|cuda]` prints Markdown tables."""

from __future__ import annotations

import argparse
import inspect
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.setting import hardware, made_up_pool, made_up_spec
from benchmarks.synthesis import CASES, Case, eq7, first_state, floor
from benchmarks.timing import Work, synchronise
from teddy.methods import batchnorm
from teddy.methods.teddy import ensemble_gradient
from teddy.pool.members import ModelPool
from teddy.runtime.device import DeviceConfig, resolve_device
from teddy.synthesis.module import PixelSynthesis
from teddy.synthesis.optimized import views_of

VIEW, UPDATE, OTHER = "view of the images", "Adam and clamp", "other"
OURS = tuple(
    name for name, one in inspect.getmembers(batchnorm, inspect.isclass) if issubclass(one, torch.autograd.Function)
)
"""The library's own differentiable functions of statistics; their backward passes are named after them."""
KINDS = {
    "convolution forward": ("aten::conv2d",),
    "convolution backward": ("ConvolutionBackward",),
    "BatchNorm and statistics": ("aten::batch_norm", "BatchNormBackward", "vector_norm", "VectorNorm", *OURS),
    "ReLU, pooling, residual sum": ("relu", "ReluBackward", "Threshold", "pool", "Pool", "aten::add_", "AddBackward"),
    VIEW: (VIEW,),
    UPDATE: (UPDATE,),
    "copies between types and formats": ("aten::to", "aten::copy_", "ToCopyBackward"),
}


def kind_of(event: Any) -> str:
    """The kind of the outermost known operation that an event is part of."""
    found = OTHER
    while event is not None:
        for kind, names in KINDS.items():
            if any(name in event.name for name in names):
                found = kind
        event = event.cpu_parent
    return found


def step(pool: ModelPool, case: Case, device_config: DeviceConfig) -> Work:
    """An iteration without Lightning: the steps of ``Teddy.step`` and ``PixelSynthesis.training_step``, with names."""
    method = eq7(case.batch, case.teachers)
    state = first_state(method, pool, device_config)
    module = PixelSynthesis(method, state, pool.spec)
    adam = method.optimizer(state)

    def work() -> None:
        adam.zero_grad()
        with device_config.autocast():
            with record_function(VIEW):
                view = views_of(method.view, state, 0)
            gradient, _ = ensemble_gradient(
                method.plan(state, 0), view, state.labels, method.ce_weight, method.bn_weight
            )
            with record_function(VIEW):
                view.backward(gradient)
        with record_function(UPDATE):
            adam.step()
            module.clamp()

    return work


def shares(work: Work, device: torch.device, steps: int = 3) -> dict[str, float]:
    """Seconds of one step by kind, largest first."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    for _ in range(2):
        work()
    synchronise(device)
    with profile(activities=activities) as profiler:
        for _ in range(steps):
            work()
        synchronise(device)
    seconds: Counter[str] = Counter()
    for event in profiler.events():
        own = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        # On a GPU the kernels' time is also listed by itself; an operation's own is counted here.
        if str(event.device_type).endswith("CPU"):
            seconds[kind_of(event)] += own / 1e6 / steps
    return dict(seconds.most_common())


def markdown(case: Case, ours: dict[str, float], least: dict[str, float]) -> str:
    """Milliseconds of a step and of its floor by kind, and what the difference adds to the floor."""
    whole = sum(least.values())
    lines = [f"| {case.title} | ms | floor, ms | more, of the floor |", "|---|---:|---:|---:|"]
    for kind, seconds in [*ours.items(), ("together", sum(ours.values()))]:
        bare = whole if kind == "together" else least.get(kind, 0.0)
        lines.append(f"| {kind} | {1000 * seconds:.1f} | {1000 * bare:.1f} | {(seconds - bare) / whole:+.1%} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile_step", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    device_config = resolve_device(parser.parse_args().device, "auto")
    print(hardware(device_config))
    for case in (CASES[0], CASES[2]):
        with tempfile.TemporaryDirectory() as folder:
            pool = made_up_pool(Path(folder), case.network, made_up_spec(case.size), case.teachers)
            works = step(pool, case, device_config), floor(pool, case.batch, device_config)
        print(f"\n{markdown(case, *(shares(work, device_config.device) for work in works))}", flush=True)


if __name__ == "__main__":
    main()
