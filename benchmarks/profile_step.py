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
from benchmarks.synthesis import CASES, VIEW, Case, floor, gradient_step, made_up_job
from benchmarks.timing import Work, synchronise
from teddy.runtime.allocator import keep_freed_memory
from teddy.runtime.precision import Compute, resolve_compute
from teddy.synthesis import statistics
from teddy.synthesis.job import SynthesisJob
from teddy.synthesis.module import bounds_of

UPDATE, OTHER = "Adam and clamp", "other"
OURS = tuple(
    name for name, one in inspect.getmembers(statistics, inspect.isclass) if issubclass(one, torch.autograd.Function)
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
        for kind, words in KINDS.items():
            if any(word in event.name for word in words):
                found = kind
        event = event.cpu_parent
    return found


def step(job: SynthesisJob, compute: Compute) -> Work:
    """What the module does in an iteration, without Lightning."""
    low, high = bounds_of(job, compute.device)
    pixels, add_gradient = gradient_step(job, compute)
    adam = torch.optim.Adam([pixels], lr=job.lr, betas=job.betas, fused=True)

    def work() -> None:
        adam.zero_grad()
        add_gradient()
        with record_function(UPDATE), torch.no_grad():
            adam.step()
            pixels.clamp_(low, high)

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
    lines = [f"| {case.words} | ms | floor, ms | more, of the floor |", "|---|---:|---:|---:|"]
    for kind, seconds in [*ours.items(), ("together", sum(ours.values()))]:
        bare = whole if kind == "together" else least.get(kind, 0.0)
        lines.append(f"| {kind} | {1000 * seconds:.1f} | {1000 * bare:.1f} | {(seconds - bare) / whole:+.1%} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile_step", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    compute = resolve_compute(parser.parse_args().device, "auto")
    keep_freed_memory()
    print(hardware(compute))
    for case in (CASES[0], CASES[2]):
        with tempfile.TemporaryDirectory() as folder:
            pool = made_up_pool(Path(folder), case.network, made_up_spec(case.size), case.teachers)
            works = step(made_up_job(pool, case.batch, 1), compute), floor(pool, case.batch, compute)
        print(f"\n{markdown(case, *(shares(work, compute.device) for work in works))}", flush=True)


if __name__ == "__main__":
    main()
