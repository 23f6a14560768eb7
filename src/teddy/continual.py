"""Class-incremental learning by GDumb (Prabhu et al., ECCV 2020; Sec. 4.6, Fig. 3e).

Classes come in steps. After each step students are trained from scratch on the stored images of all classes so far, and tested
on the test images of these classes. The whole is repeated under several orders of the classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import PositiveInt

from teddy import factory
from teddy.artifacts.fingerprint import fingerprint
from teddy.config.errors import UserError
from teddy.data.dataset import RealDataset
from teddy.data.images import TensorImages
from teddy.data.sources.classes import dataset_of_classes, of_classes
from teddy.data.spec import DatasetSpec
from teddy.invocation import Invocation
from teddy.labels.stage import prepare_labels
from teddy.plan import Plan
from teddy.runtime import seeding
from teddy.runtime.progress import StageProgress


@dataclass(frozen=True, kw_only=True)
class ClassIncremental:
    """The protocol; its fields are the keys of ``evaluation.task``.

    With ``mode`` paper, teachers, images and soft labels come from all classes, as the accuracies of Fig. 3e, which rise with the
    classes, suggest; with strict, each step has teachers and images of its own classes alone, and hard labels.
    """

    steps: PositiveInt  # into so many parts, as equal as possible, the classes are divided
    orders: PositiveInt  # of the classes, each of its own seed
    mode: Literal["paper", "strict"]

    def invocation(self, *arguments: Any) -> Invocation:
        """The run of the pipeline that evaluates in this way; see :class:`teddy.invocation.Invocation`."""
        return (Continual if self.mode == "paper" else StrictContinual)(*arguments)

    def check(self, plan: Plan) -> None:
        """Raise UserError if the labels need teachers that the mode does not have."""
        if self.mode == "strict" and factory.needs_soft_labels(plan.config):
            raise UserError(
                "evaluation.task.mode=strict knows no teacher of all classes so far, so it is for hard labels; choose an "
                "evaluation.protocol that has them, or evaluation.task.mode=paper."
            )

    def parts(self, num_classes: int, order: int) -> list[list[int]]:
        if num_classes < 2 * self.steps:
            raise UserError(
                f"evaluation.task.steps={self.steps} leaves a step with a single class of {num_classes}; set it to at most "
                f"{num_classes // 2}."
            )
        shuffled = seeding.permutation(num_classes, "class order", order)
        return [sorted(part.tolist()) for part in np.array_split(shuffled, self.steps)]


@dataclass(frozen=True)
class Memory:
    """The stored images of the classes so far, as a synthetic set; labels are positions in ``classes`` (ascending)."""

    spec: DatasetSpec
    images: TensorImages
    fingerprint: str
    classes: Sequence[int]
    learned_lr: float | None


class Continual(Invocation):
    """A run whose images of all classes are made first, and stored step by step."""

    @cached_property
    def task(self) -> ClassIncremental:
        assert isinstance(self.plan.task, ClassIncremental)
        return self.plan.task

    def _pool(self) -> None:
        self.task.parts(self.dataset.spec.num_classes, 0)  # before anything is trained
        super()._pool()

    def _labels(self) -> None:
        """Nothing: the images of each step are labelled anew, since other classes and partners of a mix are there."""

    def sets(self, command: str) -> dict[str, Path]:
        """No folder: each step has labels of its own."""
        return {}

    def _evaluation(self) -> None:
        config = self.config
        fits = self.task.steps * self.task.orders * len(self.methods)
        epochs = sum(one.epochs for one in factory.protocol_list(config).values())
        epochs *= len(config.evaluation.students) * len(factory.seeds(config))
        with StageProgress("evaluation", total=fits * epochs, unit="epochs") as progress:
            for name in self.methods:
                for order in range(self.task.orders):
                    for memory in self._memories(name, order):
                        self._students(name, order, memory, progress)

    def _students(self, name: str, order: int, memory: Memory, progress: StageProgress) -> None:
        config, pool, seen = self.config, self.pools.get(name), self._seen(memory.classes)
        soft = None
        if pool is not None and self.task.mode == "paper" and factory.needs_soft_labels(config):
            recipe = factory.label_recipe(config, pool)
            soft = prepare_labels(self.store, pool, memory, recipe, self.device_config, memory.classes)
        split = factory.eval_split(config, seen)
        students = factory.students(config, memory, soft)
        title = f"{name}, order {order}, {len(memory.classes)} classes"
        for student in students:
            self._student(name, student, split, memory, progress, title, classes=len(memory.classes))

    def _seen(self, classes: Sequence[int]) -> RealDataset:
        return dataset_of_classes(self.dataset, classes)

    def _memories(self, name: str, order: int) -> Iterator[Memory]:
        """What is stored after each step."""
        whole, classes = self.images[name], list[int]()
        for part in self.task.parts(self.dataset.spec.num_classes, order):
            classes = sorted([*classes, *part])
            images = of_classes(whole.images, classes)
            assert isinstance(images, TensorImages)
            print_ = fingerprint({"images": whole.fingerprint, "classes": classes})
            yield Memory(self._seen(classes).spec, images, print_, classes, whole.learned_lr)


class StrictContinual(Continual):
    """A run that makes teachers and images anew in each step, from the images of its classes alone."""

    def _pool(self) -> None:
        self._made: dict[tuple[int, ...], Invocation] = {}  # by the classes of a step
        for order in range(self.task.orders):
            for part in map(tuple, self.task.parts(self.dataset.spec.num_classes, order)):
                if part not in self._made:
                    self._made[part] = self._step(part)

    def _synthesis(self) -> None:
        """Nothing: each step has made its own."""

    def _step(self, part: Sequence[int]) -> Invocation:
        """Teachers and images of the classes of one step."""
        step = Invocation(self.plan, self.folder, self.store, self._seen(part), self.device_config, self.log)
        step._pool()
        if "synthesis" in self.config.stages:
            step._synthesis()
        self.diverged += step.diverged
        for name in [name for name in self.methods if name not in step.methods]:
            del self.methods[name]
            self.images.pop(name, None)
        for name in self.methods:  # the first step stands for all of them in costs and pictures
            if name in step.pools:
                self.pools.setdefault(name, step.pools[name])
            if name in step.images:
                self.images.setdefault(name, step.images[name])
        return step

    def _memories(self, name: str, order: int) -> Iterator[Memory]:
        parts = self.task.parts(self.dataset.spec.num_classes, order)
        made = [self._made[tuple(part)].images[name] for part in parts]
        for count in range(1, len(parts) + 1):
            classes = sorted(label for part in parts[:count] for label in part)
            pixels = torch.cat([one.images.images for one in made[:count]])
            # Labels within a step, then in the whole dataset, then among the classes so far.
            own = [torch.tensor(part)[one.images.labels] for one, part in zip(made[:count], parts, strict=False)]
            labels = torch.searchsorted(torch.tensor(classes), torch.cat(own))
            print_ = fingerprint({"images": [one.fingerprint for one in made[:count]], "classes": classes})
            images = TensorImages(pixels, labels)
            yield Memory(self._seen(classes).spec, images, print_, classes, made[0].learned_lr)
