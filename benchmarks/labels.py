"""Storing labels, beside the bare forward passes of the same teachers over prepared views."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from benchmarks.fits import quiet
from benchmarks.setting import Setting, made_up_images, made_up_pool, made_up_spec
from benchmarks.timing import Row, Work, compare, interleaved
from teddy.labels.compression import AllLogits
from teddy.labels.ensemble import PoolLabeller
from teddy.labels.stage import RESUME_SECONDS
from teddy.labels.store import write_stored_labels
from teddy.labels.views import ViewMaker, ViewRecipe

LIMIT = 1.11  # 0.9 of the views per second
BATCH = 256  # conf/labels/stored.yaml
EPOCHS = 4


@dataclass(frozen=True)
class Case:
    network: str
    size: int
    teachers: int
    images: int

    @property
    def title(self) -> str:
        return f"{self.network}, {self.size} px, {self.teachers} teachers, batch {min(BATCH, self.images)}"


CASES = (
    Case("convnet3_w32", 28, 5, 512),
    Case("convnet3", 32, 5, 512),
    Case("resnet18_cifar", 32, 3, 50),
)


def rows(setting: Setting) -> Iterator[Row]:
    for case in CASES:
        stored, bare = works(setting, case)
        reference, ours = interleaved([bare, stored], setting.device, setting.rounds)
        thousands = EPOCHS * case.images / 1000
        what = f"stored labels, {case.title} (s per 1000 views)"
        yield compare(what, ours / thousands, reference / thousands, LIMIT)


def works(setting: Setting, case: Case) -> tuple[Work, Work]:
    """Some epochs of stored labels, and the bare passes over the same number of views."""
    spec, device_config = made_up_spec(case.size), setting.device_config
    pool = made_up_pool(setting.folder, case.network, spec, case.teachers)
    ours, theirs = (pool.load_teachers(device_config) for _ in range(2))
    labeller = PoolLabeller(ours, device_config.autocast)
    images = made_up_images(spec, case.images).images.to(device_config.device)
    maker = ViewMaker(images, spec, ViewRecipe(), seed=0)
    folder = setting.folder / "labels"
    prepared = [
        maker(0, indices).images.contiguous(memory_format=torch.channels_last)
        for indices in torch.arange(case.images).split(BATCH)
    ]

    def stored() -> None:
        maker = ViewMaker(images, spec, ViewRecipe(), seed=0)  # without the crops of the last round
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        with quiet():
            write_stored_labels(folder, maker, labeller, EPOCHS, AllLogits(spec.num_classes), BATCH, RESUME_SECONDS)

    def bare() -> None:
        with torch.inference_mode(), device_config.autocast():
            for views in prepared * EPOCHS:
                for teacher in theirs:
                    teacher(views)

    return stored, bare
