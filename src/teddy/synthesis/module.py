"""The LightningModule that has pixels for parameters, and its callbacks: one fit optimises one group of blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import lightning as L
import torch

from teddy.config.errors import StageFailed
from teddy.data.spec import DatasetSpec
from teddy.runtime import metrics
from teddy.runtime.loggers import StageLogger
from teddy.runtime.progress import StageProgress
from teddy.runtime.resume import optimizer_tensors, restore_optimizer, save_point, save_tensors

if TYPE_CHECKING:
    from teddy.synthesis.optimized import OptimizedMethod, State

LOG_EVERY = 20  # iterations between two recorded values of the terms; the device is not waited for in between
SNAPSHOT_IMAGES = 20  # images of the first block that a snapshot shows
METHOD = "method."


class PixelSynthesis(L.LightningModule):
    """Optimise a group of blocks by a method's steps.

    The optimization is manual, as a method leaves gradients in ``.grad`` by whatever way suits it: one backward pass, one per
    teacher, or a gradient of its own. An earlier run may have left tensors and a history of terms, ``[iteration, value, ...]``
    for each block, after ``first`` iterations.
    """

    def __init__(
        self,
        method: OptimizedMethod,
        state: State,
        spec: DatasetSpec,
        first: int = 0,
        tensors: Mapping[str, torch.Tensor] | None = None,
        history: list[list[list[float]]] | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.method, self.state, self.spec, self.first = method, state, spec, first
        self.pixels = state.pixels
        # One bound for each pixel: broadcasting over three channels that lie side by side is many times slower.
        shape = (1, -1, spec.size, spec.size)
        self.low, self.high = (
            bound.to(state.pixels.device).expand(shape).contiguous(memory_format=torch.channels_last)
            for bound in spec.pixel_bounds()
        )
        self.history = history or [[] for _ in state.blocks]
        self.terms: dict[str, torch.Tensor] = {}
        self._tensors = dict(tensors or {})
        self.clamp()

    def configure_optimizers(self) -> Any:
        optimizer = self.method.optimizer(self.state)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.method.lr_factor(self.first + step))
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def train_dataloader(self) -> range:
        return range(self.first, self.method.iterations)  # a batch is the iteration's number

    def on_train_start(self) -> None:
        if self._tensors:
            restore_optimizer(self.trainer.optimizers[0], self._tensors)
            self._tensors = {}

    def training_step(self, batch: int, batch_idx: int) -> None:
        """One iteration: the method's gradients, the optimizer's step, and the clamp to displayable pixels."""
        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        optimizer.zero_grad()  # type: ignore[union-attr]
        self.terms = self.method.step(self.state, batch)
        optimizer.step()  # type: ignore[union-attr]
        self.clamp()
        if batch % LOG_EVERY == 0 or batch == self.method.iterations - 1:
            self._record(batch)
        schedule.step()  # type: ignore[union-attr]

    @torch.no_grad()
    def clamp(self) -> None:
        self.pixels.clamp_(self.low, self.high)

    def _record(self, iteration: int) -> None:
        blocks = self.state.blocks
        values = torch.stack([term.float().expand(len(blocks)) for term in self.terms.values()]).tolist()
        for block, own, rows in zip(blocks, zip(*values, strict=True), self.history, strict=True):
            if not all(map(math.isfinite, own)):
                name = self.method.title or type(self.method).__name__
                raise StageFailed(
                    f"synthesis by {name} diverged in block {block.index}, iteration {iteration}; lower its learning rate (lr)."
                )
            rows.append([iteration, *own])
        means = {metrics.synthesis_term(name): fmean(row) for name, row in zip(self.terms, values, strict=True)}
        where = {metrics.SYNTHESIS_BLOCK: float(blocks[0].index), metrics.SYNTHESIS_ITERATION: float(iteration)}
        where[metrics.SYNTHESIS_LR] = float(self.trainer.optimizers[0].param_groups[0]["lr"])
        if self.logger is not None:
            # Not log_dict, which would log these values again in every step until the next ones.
            self.logger.log_metrics(means | where, step=iteration - self.first)


class GroupProgress(L.Callback):
    """Advance the display of all groups by one unit per iteration, with the first term beside it."""

    def __init__(self, progress: StageProgress) -> None:
        self._progress = progress

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: int, batch_idx: int) -> None:
        name, value = next(iter(module.terms.items()))
        self._progress.advance(**{name: value.mean().item})


class Snapshots(L.Callback):
    """Keep pictures of the first block on its way, one image of each class, as ``snapshots/<iteration>.safetensors``."""

    def __init__(self, folder: Path, every: int) -> None:
        self._folder, self._every = folder / "snapshots", every

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: int, batch_idx: int) -> None:
        block, done = module.state.blocks[0], batch + 1
        if block.index or not self._every or (done % self._every and done != 1):
            return
        # By class, so that the pictures of all methods can be compared.
        firsts = [i for i, slot in enumerate(block.slots) if slot == block.slots[0]]
        firsts = sorted(firsts, key=lambda i: block.classes[i])[:SNAPSHOT_IMAGES]
        images = module.spec.denormalise(module.pixels.detach()[firsts]).cpu()
        classes = [block.classes[i] for i in firsts]
        self._folder.mkdir(exist_ok=True)
        save_tensors(
            self._folder / f"{done:06d}.safetensors", {"images": images}, {"iteration": done, "classes": classes}
        )
        if isinstance(trainer.logger, StageLogger):
            names = ", ".join(module.spec.class_names[label] for label in classes)
            trainer.logger.log_image(
                metrics.SYNTHESIS_IMAGES, images, batch - module.first, f"iteration {done}: {names}"
            )


class PixelCheckpoint(L.Callback):
    """Write a point to resume from every ``every`` iterations: pixels, optimizer, what the method names, recorded terms."""

    def __init__(self, path: Path, every: int) -> None:
        self._path, self._every = path, every

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: int, batch_idx: int) -> None:
        done = batch + 1
        if not self._every or done % self._every or done == module.method.iterations:
            return
        inner = {METHOD + name: tensor for name, tensor in module.method.tensors(module.state).items()}
        tensors = {"pixels": module.pixels, **inner, **optimizer_tensors(trainer.optimizers[0])}
        save_point(self._path, tensors, {"iteration": done, "history": module.history})
