"""One pruned copy of the base model: pruning, BatchNorm's statistics, a few steps of fine-tuning, and what it is worth."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from teddy.artifacts.store import write_json
from teddy.data.datamodule import RealData
from teddy.models.pruning import prune, size_of
from teddy.pool.calibration import recalibrate
from teddy.pool.finetune import calibration_batches, fine_tune
from teddy.pool.members import Member, ModelPool
from teddy.pool.recut import Recut
from teddy.pool.trajectory import BaseTraining, accuracies, holdout_top1
from teddy.runtime.progress import StageProgress
from teddy.runtime.resume import save_tensors
from teddy.runtime.seeding import stable_seed

WEIGHTS = "weights.safetensors"
HISTORY = "history.json"


@dataclass(frozen=True)
class PrunedCopy:
    """One copy, before it is made.

    Attributes:
        data: opened with the plan's batch size; its seed is set to the member's.
        seed: of the channels that are removed, of the order of images and their augmentation.
        epochs: budget of fine-tuning.
        steps: the same in batches.
        name: of its curve, such as ``post3``.
        title: what the display and messages call it.
    """

    base: BaseTraining
    origin: Member
    recut: Recut
    data: RealData
    seed: int
    epochs: float
    steps: int
    name: str
    title: str

    def make(self, folder: Path, progress: StageProgress) -> dict[str, Any]:
        """Writes weights and history into ``folder``.

        Returns:
            Size, seconds (without those of measuring), and accuracies in percent: in the end, right after pruning, and after
            the statistics were measured anew.

        Raises:
            StageFailed: fine-tuning diverged.
        """
        base, data, recut = self.base, self.data, self.recut
        spec, clock = base.dataset.spec, _Clock()
        data.seed = self.seed  # what is held out is settled already, by the base model's seed
        network = ModelPool((self.origin,), spec, self.title).load(0).requires_grad_(True)
        example = torch.zeros(1, spec.channels, spec.size, spec.size)
        with clock:
            write_json(folder / HISTORY, prune(network, example, recut.macs, recut.parameters, self.seed, recut.step))
        macs, parameters = size_of(network, example)
        network.to(base.compute.device)
        facts: dict[str, Any] = {"epoch": self.epochs, "steps": self.steps, "macs": macs, "parameters": parameters}
        facts["top1_pruned_holdout"] = holdout_top1(base, data, network)
        if recut.recalibrate:
            with clock:
                key = stable_seed(self.seed, "calibration")
                recalibrate(network, calibration_batches(data, recut.recalibrate, key, base.compute))
            facts["top1_recalibrated_holdout"] = holdout_top1(base, data, network)
        progress.advance()
        with clock:
            logger = base.log.stage(f"pool/{self.name}")
            fine_tune(
                network, recut.plan, self.steps, data, self.seed, base.compute, folder, logger, progress, self.title
            )
        facts |= accuracies(base, data, network.to(base.compute.device))
        save_tensors(folder / WEIGHTS, network.state_dict())
        return {"seconds": round(clock.seconds, 2), **facts}


class _Clock:
    """Adds up the seconds that are spent inside of it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self.seconds += time.monotonic() - self._since
