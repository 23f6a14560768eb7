"""An epoch of teacher training on the embedded data, beside as many bare training steps and a bare validation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch.nn import functional as F

from benchmarks.fits import InsideFit, fit
from benchmarks.setting import Setting
from benchmarks.timing import Row, Turns, Work, compare
from teddy.data.augment import Augmentation
from teddy.data.datamodule import RealData
from teddy.data.dataset import RealDataset
from teddy.data.sources.embedded import FashionMini
from teddy.models.networks import build_network
from teddy.pool.schedule import Recipe
from teddy.pool.teacher import SnapshotPool, TeacherTraining
from teddy.pool.trajectory import RESUME_FILE, RESUME_SECONDS
from teddy.runtime.device import DeviceConfig
from teddy.runtime.progress import ProgressCallback
from teddy.runtime.resume import ResumePoint

ABOVE_BARE = 1.10
CASES = (("convnet3_w32", 64), ("convnet3", 256))  # network, batch
DATASET = RealDataset("fashion_mini", FashionMini(), mean=[0.2860], std=[0.3530])
AUGMENT = Augmentation(crop="padded", padding=2, flip=True)  # conf/dataset/fashion_mini.yaml


def rows(setting: Setting) -> Iterator[Row]:
    for network, batch in CASES[:1] if setting.quick else CASES:
        data = RealData(DATASET.spec, DATASET.train, AUGMENT, 0.1, batch, seed=0)
        recipe = Recipe(100, 0.05, 0.9, 5e-4, batch, "cosine", 30, 0.1, 0)
        turns = Turns([bare(network, data, recipe, setting.device_config)], setting.device, setting.rounds)
        ours, others = timed(network, data, recipe, turns, setting.device_config, setting.scratch(f"teacher-{network}"))
        what = f"teacher's epoch, {network}, 28 px, {len(data.train_indices)} images, batch {batch} (s)"
        yield compare(what, ours, others[0], ABOVE_BARE)


def timed(
    network: str, data: RealData, recipe: Recipe, turns: Turns, device_config: DeviceConfig, folder: Path
) -> tuple[float, list[float]]:
    """Seconds of an epoch of a real fit with everything that the stage puts in it but snapshots; and of the references."""
    inside, spec = InsideFit(turns, epochs=True), data.spec
    teacher = build_network(network, spec.num_classes, spec.channels, spec.size)
    module = TeacherTraining(teacher, spec.num_classes, recipe, recipe.factor)
    callbacks = [
        ProgressCallback("pool", turns.length * len(data.train_dataloader())),
        SnapshotPool(folder, ()),
        ResumePoint(folder / RESUME_FILE, RESUME_SECONDS),
    ]
    return fit(module, inside, device_config, folder, "pool", callbacks, data, validate=True)


def bare(network: str, data: RealData, recipe: Recipe, device_config: DeviceConfig) -> Work:
    """One training step for each batch of an epoch, on images that never change, and a pass over the held-out images."""
    spec, device = data.spec, device_config.device
    teacher = build_network(network, spec.num_classes, spec.channels, spec.size).to(device)
    optimizer = torch.optim.SGD(teacher.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)
    training, heldout = (
        [
            (spec.normalise(images).to(device).contiguous(memory_format=torch.channels_last), labels.to(device))
            for images, labels, _ in loader
        ]
        for loader in (data.train_dataloader(), data.val_dataloader())
    )

    def work() -> None:
        teacher.train()
        for images, labels in training:
            optimizer.zero_grad()
            with device_config.autocast():
                loss = F.cross_entropy(teacher(images), labels)
            loss.backward()
            optimizer.step()
        teacher.eval()
        with torch.inference_mode(), device_config.autocast():
            for images, _ in heldout:
                teacher(images)

    return work
