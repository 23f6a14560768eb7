"""Students that train together, beside the same students one after another, and beside one stacked network of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.fits import quiet
from benchmarks.setting import Setting, made_up_images, made_up_pool, made_up_spec
from benchmarks.stacked import StackedStudents
from benchmarks.students import PROTOCOL, TEMPERATURE
from benchmarks.timing import Row, Work, at_least, at_most, compare, interleaved
from teddy.evaluation.clock import SharedClock
from teddy.evaluation.cohort import Cohort
from teddy.evaluation.student import StudentTraining
from teddy.labels.ensemble import PoolLabeller
from teddy.labels.losses import soft_label_kl
from teddy.labels.packing import Dense
from teddy.labels.sources import LabelSource, OnlineLabels, StoredLabels
from teddy.labels.store import LOGITS
from teddy.labels.views import ViewMaker, ViewRecipe
from teddy.models.networks import build_network
from teddy.runtime.loggers import RunLog
from teddy.runtime.trainer import make_trainer

SHARED, AS_GOOD, NO_FASTER = at_most(1.00), at_most(1.05), at_least(0.90)
SIZE, IMAGES, TEACHERS, SEEDS = 28, 100, 5, (0, 1, 2)
"""IPC 10 of ten classes, as in conf/experiment/mini.yaml."""


@dataclass(frozen=True)
class Case:
    """An architecture, of students and teachers; fits are long enough that starting them is a small part."""

    network: str
    batch: int
    epochs: int = 20

    @property
    def words(self) -> str:
        return f"{self.network}, {SIZE} px, batch {self.batch}"


CASES = (Case("convnet3_w32", 50), Case("convnet3_w32", 100), Case("convnet3", 50, epochs=4))
FITS = (("online", CASES[0], SHARED), ("online", CASES[2], SHARED), ("stored", CASES[0], AS_GOOD))


def rows(setting: Setting) -> Iterator[Row]:
    for kind, case, goal in FITS[:1] if setting.quick else FITS:
        together, one_by_one = fits(setting, case, SOURCES[kind](setting, case))
        reference, ours = interleaved([one_by_one, together], setting.device, setting.rounds)
        words = f"students together, 3 seeds, {case.words}, {kind} labels (s per epoch)"
        yield compare(words, ours / case.epochs, reference / case.epochs, goal)
    for case in CASES[:1] if setting.quick else CASES:
        side_by_side, stacked = steps(setting, case)
        options = dict(per_round=setting.steps(1))
        reference, ours = interleaved([side_by_side, stacked], setting.device, setting.rounds, **options)
        yield compare(f"vmap over 3 seeds / side by side, {case.words} (s per step)", ours, reference, NO_FASTER)


def _online(setting: Setting, case: Case) -> LabelSource:
    pool = made_up_pool(setting.folder, case.network, made_up_spec(SIZE, channels=1), TEACHERS)
    teachers = [pool.load(index, setting.device, setting.compute.frozen_weights) for index in range(TEACHERS)]
    precision = torch.bfloat16 if setting.compute.precision == "bfloat16" else None
    return OnlineLabels(PoolLabeller(teachers, precision=precision), TEMPERATURE)


def _stored(setting: Setting, case: Case) -> LabelSource:
    path, classes = setting.scratch("company-labels") / LOGITS, made_up_spec(SIZE, channels=1).num_classes
    np.save(path, np.random.default_rng(0).standard_normal((case.epochs, IMAGES, classes)).astype(np.float16))
    return StoredLabels(path, IMAGES, Dense(classes), TEMPERATURE)


SOURCES: dict[str, Callable[[Setting, Case], LabelSource]] = {"online": _online, "stored": _stored}


def fits(setting: Setting, case: Case, source: LabelSource) -> tuple[Work, Work]:
    """The students of all seeds in one fit, and in fits of their own; teachers are loaded beforehand for both."""
    spec, compute = made_up_spec(SIZE, channels=1), setting.compute
    protocol = replace(PROTOCOL, batch_size=case.batch, epochs=case.epochs)
    images = made_up_images(spec, IMAGES).images.to(compute.device)
    folder = Path(setting.folder)

    def fit(seeds: Sequence[int]) -> None:
        views = ViewMaker(images, spec, ViewRecipe(), seed=0)
        students = [
            StudentTraining(
                build_network(case.network, spec.num_classes, spec.channels, spec.size, seed=seed),
                views,
                source,
                protocol,
                IMAGES,
                seed,
                autocast=compute.autocast,
                logger=RunLog(folder).stage(f"company/{seed}"),
            )
            for seed in seeds
        ]
        cohort = Cohort(students, source, SharedClock([0.0] * len(students), compute.device))
        with quiet():
            make_trainer(cohort.arithmetic(compute), max_epochs=case.epochs, folder=folder).fit(cohort)

    def one_by_one() -> None:
        for seed in SEEDS:
            fit([seed])

    return lambda: fit(SEEDS), one_by_one


def steps(setting: Setting, case: Case) -> tuple[Work, Work]:
    """A training step of every student on a batch of its own that never changes: one after the other, and stacked."""
    spec, compute = made_up_spec(SIZE, channels=1), setting.compute
    draws = torch.Generator().manual_seed(0)
    shape = (len(SEEDS), case.batch)
    images = torch.randn(*shape, spec.channels, SIZE, SIZE, generator=draws).to(compute.device)
    targets = torch.randn(*shape, spec.num_classes, generator=draws).to(compute.device)
    networks = [
        build_network(case.network, spec.num_classes, spec.channels, SIZE, seed=seed).to(compute.device).train()
        for seed in SEEDS
    ]
    stacked = StackedStudents(networks, lambda all: torch.optim.AdamW(all, lr=PROTOCOL.lr), TEMPERATURE, compute)
    optimizers = [PROTOCOL.make_optimizer(network) for network in networks]
    batches = [one.contiguous(memory_format=torch.channels_last) for one in images]

    def side_by_side() -> None:
        for network, optimizer, batch, wanted in zip(networks, optimizers, batches, targets, strict=True):
            optimizer.zero_grad()
            with compute.autocast():
                logits = network(batch)
            soft_label_kl(logits.float(), wanted, TEMPERATURE).backward()
            optimizer.step()

    return side_by_side, lambda: stacked.step(images, targets)
