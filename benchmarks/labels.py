"""B: storing labels, beside the bare forward passes of the same teachers over views that lie ready."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from benchmarks.setting import Setting, made_up_images, made_up_pool, made_up_spec
from benchmarks.timing import Row, Work, at_most, compare, interleaved
from teddy.labels.ensemble import PoolLabeller
from teddy.labels.packing import Dense
from teddy.labels.stage import RESUME_SECONDS
from teddy.labels.store import write_stored_labels
from teddy.labels.views import ViewMaker, ViewRecipe

# 0.9 of the views per second.
SLOWER = at_most(1.11)
BATCH = 256  # conf/labels/stored.yaml
EPOCHS = 4


@dataclass(frozen=True)
class Case:
    network: str
    size: int
    teachers: int
    images: int

    @property
    def words(self) -> str:
        return f"{self.network}, {self.size} px, {self.teachers} teachers, batch {min(BATCH, self.images)}"


CASES = (
    Case("convnet3_w32", 28, 5, 512),
    Case("convnet3", 32, 5, 512),
    Case("resnet18_cifar", 32, 3, 50),
)


def rows(setting: Setting) -> Iterator[Row]:
    for case in CASES:
        stored, bare = works(setting, case)
        ours, reference = interleaved([bare, stored], setting.device, setting.rounds)[::-1]
        # In seconds per 1000 views, as throughputs of different sizes can be compared.
        thousands = EPOCHS * case.images / 1000
        yield compare(
            f"stored labels, {case.words} (s per 1000 views)", ours / thousands, reference / thousands, SLOWER
        )


def works(setting: Setting, case: Case) -> tuple[Work, Work]:
    """Some epochs of stored labels, and the bare passes over the same number of views."""
    spec, compute = made_up_spec(case.size), setting.compute
    pool = made_up_pool(setting.folder, case.network, spec, case.teachers)
    precision = torch.bfloat16 if compute.precision == "bfloat16" else None
    ours, theirs = (
        [pool.load(index, compute.device, compute.frozen_weights) for index in range(len(pool))] for _ in range(2)
    )
    labeller = PoolLabeller(ours, batch_size=BATCH, precision=precision)
    images = made_up_images(spec, case.images).images.to(compute.device)
    maker = ViewMaker(images, spec, ViewRecipe(), seed=0)
    folder = setting.folder / "labels"
    prepared = [
        maker(0, indices).images.contiguous(memory_format=torch.channels_last)
        for indices in torch.arange(case.images).split(BATCH)
    ]

    def stored() -> None:
        maker = ViewMaker(images, spec, ViewRecipe(), seed=0)  # with nothing kept from the round before
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        write_stored_labels(
            folder, maker, labeller, EPOCHS, case.images, Dense(spec.num_classes), BATCH, seconds=RESUME_SECONDS
        )

    def bare() -> None:
        with torch.inference_mode(), compute.autocast():
            for views in prepared * EPOCHS:
                for teacher in theirs:
                    teacher(views)

    return stored, bare
