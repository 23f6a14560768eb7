"""D: an epoch of teacher training on the embedded data, beside as many bare training steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from benchmarks.fits import InsideFit, fit
from benchmarks.setting import Setting
from benchmarks.timing import Row, Turns, Work, at_most, compare
from teddy.data.augment import Augmentation
from teddy.data.datamodule import RealData
from teddy.data.dataset import RealDataset, open_dataset
from teddy.data.sources.embedded import FashionMini
from teddy.models.networks import build_network
from teddy.pool.schedule import Recipe
from teddy.pool.teacher import SnapshotPool, TeacherTraining
from teddy.pool.trajectory import RESUME_FILE, RESUME_SECONDS
from teddy.runtime.precision import Compute
from teddy.runtime.progress import ProgressCallback
from teddy.runtime.resume import ResumePoint

ABOVE_BARE = at_most(1.10)
AUGMENT = Augmentation(crop="padded", padding=2, flip=True)  # conf/dataset/fashion_mini.yaml


@dataclass(frozen=True)
class Case:
    network: str
    batch: int


CASES = (Case("convnet3_w32", 64), Case("convnet3", 256))


def rows(setting: Setting) -> Iterator[Row]:
    dataset = open_dataset("fashion_mini", FashionMini(), mean=[0.2860], std=[0.3530])
    for case in CASES[:1] if setting.quick else CASES:
        recipe = Recipe(100, 0.05, 0.9, 5e-4, case.batch, "cosine", 30, 0.1, 0)
        data = RealData(dataset.spec, dataset.train, dataset.test, AUGMENT, 0.1, case.batch, seed=0)
        sizes = [len(indices) for _, indices in data.train_dataloader().sampler]
        reference = bare(case.network, dataset, recipe, sizes, setting.compute)
        turns = Turns([reference], setting.device, setting.rounds)
        folder = setting.scratch(f"teacher-{case.network}")
        ours, others = timed(case.network, dataset, recipe, data, turns, setting.compute, folder)
        what = f"teacher's epoch, {case.network}, 28 px, {sum(sizes)} images, batch {case.batch} (s)"
        yield compare(what, ours, others[0], ABOVE_BARE)


def timed(
    network: str, dataset: RealDataset, recipe: Recipe, data: RealData, turns: Turns, compute: Compute, folder: Path
) -> tuple[float, list[float]]:
    """Seconds of an epoch of a real fit with everything that the stage puts in it but snapshots; and of the references."""
    inside = InsideFit(turns, epochs=True)
    spec = dataset.spec
    module = TeacherTraining(build_network(network, spec.num_classes, spec.channels, spec.size), recipe)
    total = inside.length * len(data.train_dataloader())
    callbacks = [
        ProgressCallback("pool", total),
        SnapshotPool(folder, (), lambda network: {}),
        ResumePoint(folder / RESUME_FILE, RESUME_SECONDS),
    ]
    return fit(module, inside, compute, folder, "pool", inside.length, callbacks, datamodule=data)


def bare(network: str, dataset: RealDataset, recipe: Recipe, sizes: list[int], compute: Compute) -> Work:
    """One training step for each batch size, on images that never change."""
    spec = dataset.spec
    teacher = build_network(network, spec.num_classes, spec.channels, spec.size).to(compute.device).train()
    optimizer = torch.optim.SGD(teacher.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)
    batches = []
    for size in sizes:
        chosen = torch.arange(size) * len(dataset.train) // size
        images = spec.normalise(dataset.train.take(chosen)).to(compute.device)
        labels = dataset.train.labels[chosen].to(compute.device)
        batches.append((images.contiguous(memory_format=torch.channels_last), labels))

    def work() -> None:
        for images, labels in batches:
            optimizer.zero_grad()
            with compute.autocast():
                loss = F.cross_entropy(teacher(images), labels)
            loss.backward()
            optimizer.step()

    return work
