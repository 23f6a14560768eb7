"""E: what Lightning, logging and the progress display add to a step of synthesis, beside the passes of a real one."""

from __future__ import annotations

from collections.abc import Iterator

import lightning as L
import torch
from torch import nn

from benchmarks.fits import InsideFit, fit
from benchmarks.setting import Setting, made_up_pool, made_up_spec
from benchmarks.synthesis import floor
from benchmarks.timing import Row, Turns, at_most, compare
from teddy.data.spec import DatasetSpec
from teddy.runtime import metrics
from teddy.runtime.progress import ProgressCallback
from teddy.synthesis.job import LOG_EVERY

OF_A_STEP = at_most(0.02)
MANY = 10 * LOG_EVERY
"""Empty steps between two steps' passes."""
CASES: tuple[tuple[str, DatasetSpec, int, int], ...] = (
    ("convnet3_w32", made_up_spec(28, channels=1), 100, 5),  # the quick start
    ("resnet18_cifar", made_up_spec(32), 50, 3),
)


class EmptyStep(L.LightningModule):
    """A step without work, recorded and logged as synthesis does it."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.pixels = nn.Parameter(torch.zeros(1))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([self.pixels])

    def train_dataloader(self) -> range:
        return range(self.steps)

    def training_step(self, batch: int, batch_idx: int) -> torch.Tensor:
        return self.pixels.sum()

    def on_train_batch_end(self, outputs: object, batch: int, batch_idx: int) -> None:
        if batch_idx % LOG_EVERY == 0 and self.trainer.logger is not None:
            names = (metrics.SYNTHESIS_LOSS, metrics.SYNTHESIS_LOSS_CE, metrics.SYNTHESIS_LOSS_BN)
            self.trainer.logger.log_metrics(dict.fromkeys(names, float(self.pixels)), step=batch_idx)


def rows(setting: Setting) -> Iterator[Row]:
    for network, spec, batch, teachers in CASES:
        passes = floor(made_up_pool(setting.folder, network, spec, teachers), batch, setting.compute)
        turns = Turns([passes], setting.device, setting.rounds, per_round=setting.steps(1), ours_per_round=MANY)
        inside = InsideFit(turns)
        folder = setting.scratch(f"overhead-{network}")
        callbacks = [ProgressCallback("synthesis", inside.length)]
        ours, others = fit(EmptyStep(inside.length), inside, setting.compute, folder, "synthesis", 1, callbacks)
        what = (
            f"Lightning and logging in a step of synthesis, {network}, {spec.size} px, batch {batch}, n={teachers} (s)"
        )
        yield compare(what, ours, others[0], OF_A_STEP)
