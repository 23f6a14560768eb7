"""Post-generation (Sec. 3.3, D.1): weak teachers pruned from one well-trained base model, and fine-tuned very briefly."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache, partial
from typing import Any

import torch

from teddy.artifacts.store import Artifact
from teddy.config.errors import BadInput
from teddy.models.networks import build_network
from teddy.models.pruning import prune
from teddy.pool.base import base_model, check_base
from teddy.pool.finetune import FineTune
from teddy.pool.members import Member, ModelPool
from teddy.pool.pruned import HISTORY, WEIGHTS, PrunedCopy, Recut
from teddy.pool.trajectory import BaseTraining, open_data
from teddy.runtime import metrics
from teddy.runtime.progress import StageProgress
from teddy.runtime.seeding import stable_seed

KIND = "pruned"
VERSION = 1


class PostPool:
    """Copies of the base model, each pruned by its own seed and fine-tuned for its own budget.

    The budgets are ``epochs * (k / (size - 1)) ** 2``, so that they crowd at the start, where accuracy recovers fast: the pool
    simulates the accuracy curve of a trajectory.

    Args:
        size: number of members; a single one is not fine-tuned.
        base: where the base model comes from: ``trained``, ``pretrained`` or the path of a weight file.
        macs: prune until at most so many multiply-accumulates are left; up to 1: a share of the base model's; None: no target.
        parameters: likewise, at most so many parameters.
        step: share of each layer's channels that a step of pruning takes.
        epochs: longest budget of fine-tuning.
        lr: learning rate in the first third of a budget.
        lr_end: learning rate in the last third; the geometric mean of both lies between.
        batch_size: of fine-tuning.
        recalibrate: training images over which BatchNorm's statistics are measured after pruning; 0 leaves those of the base
            model.

    Raises:
        BadInput: a value makes no sense.
    """

    def __init__(
        self,
        size: int,
        base: str,
        macs: float | None,
        parameters: float | None,
        step: float,
        epochs: float,
        lr: float,
        lr_end: float,
        momentum: float,
        weight_decay: float,
        batch_size: int,
        recalibrate: int,
    ) -> None:
        if macs is None and parameters is None:
            raise BadInput(
                "pool.strategy.macs and pool.strategy.parameters are both null; give a target, such as 0.66."
            )
        self.size = int(_number("size", size, 1, whole=True))
        self.base = base
        plan = FineTune(
            lr=_number("lr", lr, 0, above=True),
            lr_end=_number("lr_end", lr_end, 0, lr, above=True),
            momentum=_number("momentum", momentum, 0, 1),
            weight_decay=_number("weight_decay", weight_decay, 0),
            batch_size=int(_number("batch_size", batch_size, 2, whole=True)),
        )
        self.recut = Recut(
            # As floats, so that 1.2e9 and 1200000000 name the same work.
            macs=None if macs is None else _number("macs", macs, 0, above=True),
            parameters=None if parameters is None else _number("parameters", parameters, 0, above=True),
            step=_number("step", step, 0, 0.5, above=True),
            recalibrate=int(_number("recalibrate", recalibrate, 0, whole=True)),
            plan=plan,
        )
        self.epochs = _number("epochs", epochs, 0)

    def check(self, base: BaseTraining) -> None:
        """Raises BadInput if the base model cannot be had, or the targets cannot be reached by pruning it."""
        check_base(base, self.base)
        self._check_targets(base)

    def make(self, base: BaseTraining, label: str) -> ModelPool:
        """Makes the base model and each member unless they are in the store.

        Raises:
            BadInput: the targets cannot be reached, or the base model cannot be had.
            StageFailed: training diverged or the disk is full.
        """
        self._check_targets(base)
        origin = base_model(base, self.base)
        contents = [self._content(base, origin, index) for index in range(self.size)]
        artifacts = {index: base.store.find(KIND, content) for index, content in enumerate(contents)}
        missing = {index: contents[index] for index, artifact in artifacts.items() if artifact is None}
        if missing:
            artifacts |= self._complete(base, origin, missing, label)
        members = tuple(_member(base.network, artifact) for artifact in artifacts.values() if artifact is not None)
        seconds = origin.seconds + sum(member.seconds for member in members)
        return ModelPool(members, base.dataset.spec, label, seconds=seconds)

    def _check_targets(self, base: BaseTraining) -> None:
        spec = base.dataset.spec
        shape = spec.num_classes, spec.channels, spec.size
        _try_out(base.network, shape, self.recut.macs, self.recut.parameters, self.recut.step)

    def budget(self, index: int) -> float:
        """Epochs of fine-tuning of member ``index``."""
        return round(self.epochs * (index / (self.size - 1)) ** 2, 4) if self.size > 1 else 0.0

    def _content(self, base: BaseTraining, origin: Member, index: int) -> dict[str, Any]:
        """What a member depends on; not on how many others there are."""
        recut, budget = asdict(self.recut), self.budget(index)
        plan = recut.pop("plan")
        return {
            "version": VERSION,
            "base": origin.identity,
            "network": base.network,
            "dataset": base.dataset.fingerprint,
            "augment": asdict(base.augment),
            "holdout": base.holdout,
            "precision": base.compute.precision,
            "recut": recut,
            "seed": stable_seed(base.seed, "pruned", index),
            "epochs": budget,
            "fine_tune": plan if budget > 0 else None,
        }

    def _complete(
        self, base: BaseTraining, origin: Member, missing: dict[int, dict[str, Any]], label: str
    ) -> dict[int, Artifact]:
        data = open_data(base, self.recut.plan.batch_size)
        epoch = len(data.train_dataloader())
        steps = {index: round(content["epochs"] * epoch) for index, content in missing.items()}
        made, due = {}, 0
        with StageProgress("pool", total=sum(steps.values()) + len(steps), unit="steps") as progress:
            for index, content in missing.items():
                copy = PrunedCopy(
                    base,
                    origin,
                    self.recut,
                    data,
                    seed=content["seed"],
                    epochs=content["epochs"],
                    steps=steps[index],
                    name=f"{label}{index + 1}",
                    title=f"{label} {index + 1}/{self.size}",
                )
                made[index] = base.store.produce(KIND, content, partial(copy.make, progress=progress))
                due += steps[index] + 1
                progress.skip(due - progress.done)  # another run has made it meanwhile
                _show(base, label, index, made[index])
        return made


def _member(network: str, artifact: Artifact) -> Member:
    return Member(
        network=network,
        file=artifact.folder / WEIGHTS,
        epoch=artifact.facts["epoch"],
        identity=artifact.fingerprint,
        top1_holdout=artifact.facts["top1_holdout"],
        top1_test=artifact.facts["top1_test"],
        history=artifact.folder / HISTORY,
        seconds=artifact.facts["seconds"],
    )


def _show(base: BaseTraining, label: str, index: int, artifact: Artifact) -> None:
    facts = artifact.facts
    shown = {metrics.POOL_TOP1_HOLDOUT: facts["top1_holdout"], metrics.POOL_TOP1_TEST: facts["top1_test"]}
    base.log.stage(f"pool/{label}").log_metrics({**shown, metrics.POOL_EPOCH: facts["epoch"]}, step=index)


@cache
def _try_out(name: str, shape: tuple[int, int, int], macs: float | None, parameters: float | None, step: float) -> None:
    """Prunes a network without content: every seed and all weights lead to the same sizes."""
    classes, channels, size = shape
    network = build_network(name, classes, channels, size).to("meta")
    prune(network, torch.zeros(1, channels, size, size, device="meta"), macs, parameters, seed=0, step=step)


def _number(
    key: str, value: Any, low: float, high: float = float("inf"), *, above: bool = False, whole: bool = False
) -> float:
    plain = isinstance(value, int) if whole else isinstance(value, int | float)
    fits = plain and not isinstance(value, bool) and low <= value <= high and not (above and value == low)
    if not fits or value == float("inf"):
        kind = "a whole number" if whole else "a number"
        most = "" if high == float("inf") else f" and at most {high:g}"
        least = f"above {low:g}" if above else f"from {low:g} on"
        raise BadInput(f"pool.strategy.{key}={value} must be {kind} {least}{most}.")
    return value if whole else float(value)
