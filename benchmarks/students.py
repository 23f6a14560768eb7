"""An epoch of a student's training, beside bare training steps of the same network with the same optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from benchmarks.fits import InsideFit, fit, quiet
from benchmarks.setting import Setting, made_up_images, made_up_spec
from benchmarks.timing import Row, Turns, Work, compare
from teddy.data.spec import DatasetSpec
from teddy.evaluation.datamodule import DistilledViews
from teddy.evaluation.protocol import Protocol
from teddy.evaluation.stage import RESUME_SECONDS, EpochEnd
from teddy.evaluation.student import StudentTraining
from teddy.labels.compression import AllLogits
from teddy.labels.sources import soft_label_kl
from teddy.labels.store import LABELS, StoredLabels
from teddy.labels.views import ViewMaker, ViewRecipe
from teddy.models.networks import build_network
from teddy.runtime.device import DeviceConfig
from teddy.runtime.progress import StageProgress
from teddy.runtime.resume import ResumePoint

ABOVE_BARE = 1.10
CASES = (("convnet3", 5), ("resnet18_cifar", 1))  # network, epochs in a round
SIZE, IMAGES, BATCH, EPOCHS, TEMPERATURE = 32, 100, 50, 300, 20.0
"""IPC 10 of ten classes; conf/evaluation/default.yaml's protocol `paper` with this batch size."""
PROTOCOL = Protocol("soft", "views", "adamw", 1e-3, 0.9, 0.01, BATCH, EPOCHS, "cosine", 1.0)
STEPS = IMAGES // BATCH


def rows(setting: Setting) -> Iterator[Row]:
    spec = made_up_spec(SIZE)
    for network, epochs in CASES[:1] if setting.quick else CASES:
        reference = bare(network, spec, setting.device_config)
        turns = Turns([reference], setting.device, setting.rounds, per_round=setting.steps(epochs))
        ours, others = timed(network, spec, turns, setting.device_config, setting.scratch(f"student-{network}"))
        what = f"student's step, {network}, {SIZE} px, batch {BATCH}, stored labels (s)"
        yield compare(what, ours / STEPS, others[0] / STEPS, ABOVE_BARE)


def timed(
    network: str, spec: DatasetSpec, turns: Turns, device_config: DeviceConfig, folder: Path
) -> tuple[float, list[float]]:
    """Seconds of an epoch of a real fit with everything that the stage puts in it, and of the references."""
    distilled = made_up_images(spec, IMAGES)
    logits = np.random.default_rng(0).standard_normal((EPOCHS, IMAGES, spec.num_classes))
    save_file({"logits": logits.astype(np.float16)}, folder / LABELS)
    source = StoredLabels(folder / LABELS, (EPOCHS, IMAGES), AllLogits(spec.num_classes), TEMPERATURE)
    views = ViewMaker(distilled.images.to(device_config.device), spec, ViewRecipe(), seed=0)
    data = DistilledViews(views, source, BATCH, 0, spec, lambda: distilled)
    student = build_network(network, spec.num_classes, spec.channels, spec.size)
    module = StudentTraining(student, PROTOCOL, source.loss, spec.num_classes, seed=0)
    inside, progress = InsideFit(turns, epochs=True), StageProgress("evaluation", EPOCHS, "epochs")
    point = ResumePoint(folder / ".resume.safetensors", RESUME_SECONDS)
    callbacks = [EpochEnd(progress, "student", PROTOCOL.lr), point]
    with quiet(), progress:
        log_every = EPOCHS * STEPS // 100
        return fit(module, inside, device_config, folder, "evaluation", callbacks, data, log_every=log_every)


def bare(network: str, spec: DatasetSpec, device_config: DeviceConfig) -> Work:
    """As many training steps as an epoch has, on one batch that never changes."""
    student = build_network(network, spec.num_classes, spec.channels, spec.size).to(device_config.device).train()
    optimizer = PROTOCOL.make_optimizer(student)
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, spec.channels, spec.size, spec.size, generator=draws).to(device_config.device)
    images = images.contiguous(memory_format=torch.channels_last)
    targets = torch.randn(BATCH, spec.num_classes, generator=draws).to(device_config.device)

    def work() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            with device_config.autocast():
                loss = soft_label_kl(student(images).float(), targets, TEMPERATURE)
            loss.backward()
            optimizer.step()

    return work
