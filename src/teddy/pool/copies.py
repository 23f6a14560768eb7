"""The pruned copies of one base model as a pool: those that the store holds, and the others made now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

import torch

from teddy.artifacts.store import Artifact
from teddy.models.networks import build_network
from teddy.models.pruning import prune
from teddy.pool.base import base_model
from teddy.pool.members import Member, ModelPool
from teddy.pool.pruned import HISTORY, WEIGHTS, PrunedCopy
from teddy.pool.recut import Recut
from teddy.pool.trajectory import BaseTraining, open_data
from teddy.runtime import metrics
from teddy.runtime.progress import StageProgress
from teddy.runtime.seeding import stable_seed

KIND = "pruned"
VERSION = 1


def check_targets(base: BaseTraining, recut: Recut) -> None:
    """Raises BadInput if pruning the base model cannot reach the targets."""
    spec = base.dataset.spec
    shape = spec.num_classes, spec.channels, spec.size
    _try_out(base.network, shape, recut.macs, recut.parameters, recut.step)


@dataclass(frozen=True)
class Copies:
    """What the members of a pool have in common, and how long each is fine-tuned.

    Attributes:
        label: what the pool is called.
        source: where the base model comes from; see :func:`teddy.pool.base.base_model`.
        budgets: epochs of fine-tuning, one per member.
    """

    base: BaseTraining
    label: str
    source: str
    recut: Recut
    budgets: Sequence[float]

    def pool(self) -> ModelPool:
        """Makes the base model and each member unless they are in the store.

        Raises:
            BadInput: the targets cannot be reached, or the base model cannot be had.
            StageFailed: training diverged or the disk is full.
        """
        base = self.base
        check_targets(base, self.recut)
        origin = base_model(base, self.source)
        contents = [self._content(origin, index) for index in range(len(self.budgets))]
        artifacts = {index: base.store.find(KIND, content) for index, content in enumerate(contents)}
        missing = {index: contents[index] for index, artifact in artifacts.items() if artifact is None}
        if missing:
            artifacts |= self._complete(origin, missing)
        members = tuple(_member(base.network, artifact) for artifact in artifacts.values() if artifact is not None)
        seconds = origin.seconds + sum(member.seconds for member in members)
        return ModelPool(members, base.dataset.spec, self.label, seconds=seconds)

    def _content(self, origin: Member, index: int) -> dict[str, Any]:
        """What a member depends on; not on how many others there are."""
        base, recut, budget = self.base, asdict(self.recut), self.budgets[index]
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

    def _complete(self, origin: Member, missing: dict[int, dict[str, Any]]) -> dict[int, Artifact]:
        base, label = self.base, self.label
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
                    title=f"{label} {index + 1}/{len(self.budgets)}",
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
