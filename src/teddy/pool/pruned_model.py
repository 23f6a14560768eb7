"""One weak teacher of a post pool (D.1): the base model, pruned, with new BatchNorm statistics, and briefly fine-tuned."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.profilers import SimpleProfiler
from torch import nn
from torch.optim.swa_utils import update_bn

from teddy.artifacts.store import Outlook, write_json
from teddy.config.errors import Diverged
from teddy.data.datamodule import RealData
from teddy.data.spec import DatasetSpec
from teddy.models.classifier import VAL_TOP1, not_finite
from teddy.models.networks import build_network
from teddy.models.pruning import prune, size_of
from teddy.pool.members import WEIGHTS, Member, ModelPool
from teddy.pool.schedule import FineTune
from teddy.pool.teacher import TeacherTraining
from teddy.pool.trajectory import BaseTraining
from teddy.runtime import metrics
from teddy.runtime.distributed import broadcast, is_leader
from teddy.runtime.progress import ProgressCallback
from teddy.runtime.resume import save_tensors
from teddy.runtime.seeding import seed_torch, stable_seed
from teddy.runtime.trainer import make_trainer

VERSION = 1
HISTORY = "history.json"


@dataclass(frozen=True)
class PruningConfig:
    """How the base model is pruned and repaired; see :class:`teddy.pool.post.PostPool` for the numbers."""

    macs: float | None
    parameters: float | None
    step: float
    recalibrate: int


@cache  # asked by every pool of a run, and when the pool is made
def check_targets(network: str, spec: DatasetSpec, macs: float | None, parameters: float | None, step: float) -> None:
    """Raise UserError if pruning the network cannot reach the targets."""
    # Without weights: the sizes that can be reached depend neither on them nor on the seed.
    empty = build_network(network, spec.num_classes, spec.channels, spec.size).to("meta")
    prune(empty, _example(spec).to("meta"), macs, parameters, seed=0, step=step)


def _example(spec: DatasetSpec) -> torch.Tensor:
    return torch.zeros(1, spec.channels, spec.size, spec.size)


@dataclass(frozen=True)
class PrunedModel:
    """Member ``index`` of a post pool of ``size`` models."""

    base: BaseTraining
    origin: Member  # the base model
    config: PruningConfig
    plan: FineTune
    epochs: float  # of fine-tuning; parts of an epoch count too
    index: int
    size: int

    @property
    def seed(self) -> int:
        """Seed of the removed channels, the order of images and their augmentation."""
        return stable_seed(self.base.seed, "pruned", self.index)

    def member(self) -> Member:
        base = self.base
        content = {  # not how many others there are
            "version": VERSION,
            "base": self.origin.identity,
            "network": base.network,
            "dataset": base.dataset.fingerprint,
            "augment": asdict(base.augment),
            "holdout": base.holdout,
            **base.device_config.fingerprint,
            "pruning": asdict(self.config),
            "seed": self.seed,
            "epochs": self.epochs,
            "fine_tune": asdict(self.plan) if self.epochs > 0 else None,
        }
        made = base.store.produce(
            "pruned", content, self.build, collective=base.device_config.together, outlook=self._outlook
        )
        return Member.of(made, base.network, HISTORY)

    def _outlook(self) -> Outlook:
        def stand_in(folder: Path) -> None:
            write_json(folder / HISTORY, [])
            self.base.stand_in(folder)

        facts = {"epoch": self.epochs, "seconds": math.nan, "top1_holdout": math.nan}
        train, held = len(self.base.dataset.train), self.base.holdout
        # A pass without its way back takes a third: three times the held-out images, once those of the new statistics.
        passes = train * (self.epochs * (1 - held) + held) + self.config.recalibrate / 3
        return Outlook(f"{self.base.network}, pruned", facts, stand_in, label=self.label, passes=passes, timed=False)

    @property
    def label(self) -> str:
        """The name of its progress."""
        return f"pool: post {self.index + 1}/{self.size}"

    def build(self, folder: Path) -> dict[str, Any]:
        """Write weights and pruning history; return size, seconds without those of validation, and accuracies in percent."""
        base, config, clock = self.base, self.config, SimpleProfiler()
        spec, data = base.dataset.spec, base.open_data(self.plan.batch_size, seed=self.seed)
        steps = round(self.epochs * len(data.train_dataloader()))
        network = ModelPool((self.origin,), spec, "").load(0).requires_grad_(True)
        example = _example(spec)
        with clock.profile("pruning"):
            history = prune(network, example, config.macs, config.parameters, self.seed, config.step)
        macs, parameters = size_of(network, example)
        facts: dict[str, Any] = {"epoch": self.epochs, "steps": steps, "macs": macs, "parameters": parameters}
        facts["top1_pruned_holdout"] = base.holdout_top1(network, data)
        if config.recalibrate:
            with clock.profile("recalibration"):
                self._recalibrate(network, data)
            facts["top1_recalibrated_holdout"] = base.holdout_top1(network, data)
        if steps:
            with clock.profile("fine-tuning"):
                self._fine_tune(network, data, steps, folder)
        if base.device_config.together:
            network.load_state_dict(broadcast(network.state_dict()))  # BatchNorm statistics differ between processes
        facts["top1_holdout"] = base.holdout_top1(network, data)
        if is_leader():
            write_json(folder / HISTORY, history)
            save_tensors(folder / WEIGHTS, network.state_dict())
        scalars = {VAL_TOP1: facts["top1_holdout"], metrics.POOL_EPOCH: self.epochs}
        base.log.stage("pool/post").log_metrics(scalars, step=self.index)
        seconds = sum(sum(each) for each in clock.recorded_durations.values())
        return {"seconds": round(seconds, 2), **facts}

    def _recalibrate(self, network: nn.Module, data: RealData) -> None:
        """Replace the BatchNorm statistics, which are those of the whole model, by averages over augmented training images."""
        seed, device = stable_seed(self.seed, "calibration"), self.base.device_config.device
        seed_torch(seed)
        update_bn(data.augmented_batches(self.config.recalibrate, 128, seed, device), network.to(device))

    def _fine_tune(self, network: nn.Module, data: RealData, steps: int, folder: Path) -> None:
        base, plan, title = self.base, self.plan, f"post {self.index + 1}/{self.size}"
        trainer = make_trainer(
            base.device_config,
            max_epochs=-1,
            max_steps=steps,
            folder=folder,
            logger=base.log.stage(f"pool/post{self.index + 1}"),
            callbacks=[ProgressCallback(self.label, total=steps)],
        )
        classes, factor = base.dataset.spec.num_classes, partial(plan.factor, steps=steps)
        module = TeacherTraining(network.train(), classes, plan, factor, "step", self.seed)
        trainer.fit(module, datamodule=data)
        if not_finite(network):
            raise Diverged(
                f"fine-tuning of the pruned model {title} diverged ({module.trouble()}); lower pool.strategy.lr={plan.lr}."
            )
