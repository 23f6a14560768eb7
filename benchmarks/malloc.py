"""Training steps with freed memory kept for the next tensors, as in a run, beside malloc's default, in processes in turn."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator

import torch
from torch.nn import functional as F

from benchmarks.setting import Setting, made_up_spec
from benchmarks.startup import measured_apart
from benchmarks.timing import Row, compare
from teddy.models.networks import build_network
from teddy.models.stateless import StatelessNetwork
from teddy.runtime.device import DeviceConfig
from teddy.runtime.memory import keep_freed_memory

NETWORKS = {"student's step": "convnet3", "unrolled step": "convnet3_in"}
CASES = (("student's step", 256, 0.80), ("student's step", 100, 0.90), ("unrolled step", 100, 0.80))  # images, goal
SIZE, STEPS = 32, 3


def rows(setting: Setting) -> Iterator[Row]:
    if setting.device_config.accelerator != "cpu":
        return
    for what, images, goal in CASES[:1] if setting.quick else CASES:
        task = {"what": what, "images": images, "precision": setting.device_config.precision}
        tasks = [{**task, "keep": keep} for keep in (True, False)]
        pairs = [[measured_apart("benchmarks.malloc", one) for one in tasks] for _ in range(setting.rounds)]
        ours, reference = map(statistics.median, zip(*pairs, strict=True))
        title = f"{what}, {NETWORKS[what]}, {SIZE} px, batch {images}: freed memory kept and returned (s)"
        yield compare(title, ours, reference, goal)


def child(what: str, images: int, precision: str, keep: bool) -> float:
    """Seconds of a step in the child process, after one to warm up."""
    if keep:
        keep_freed_memory()
    spec = made_up_spec(SIZE)
    network = build_network(NETWORKS[what], spec.num_classes, spec.channels, SIZE)
    batch = torch.randn(images, spec.channels, SIZE, SIZE), torch.arange(images) % spec.num_classes
    stateless = StatelessNetwork(network) if what == "unrolled step" else None
    device_config = DeviceConfig("cpu", precision)

    def step() -> None:
        if stateless is not None:  # the gradient of a gradient, in float32
            pixels = batch[0].requires_grad_()
            stateless.gradient(stateless.initial, pixels, batch[1], create_graph=True)[0].square().sum().backward()
            return
        with device_config.autocast():
            loss = F.cross_entropy(network(batch[0].contiguous(memory_format=torch.channels_last)), batch[1])
        loss.backward()

    step()
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    return (time.perf_counter() - start) / STEPS


if __name__ == "__main__":
    print(child(**json.loads(sys.argv[1])))
