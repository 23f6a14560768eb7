"""The LightningModule that has pixels for parameters, and its callbacks: one fit optimises one group of blocks."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import lightning as L
import torch

from teddy.config.errors import Diverged
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
    teacher, or a gradient of its own. ``history`` holds rows ``[iteration, value, ...]`` of the terms for each block.

    Args:
        point: what :class:`PixelCheckpoint` wrote in an earlier run, if there is one to go on from.
    """

    def __init__(
        self,
        method: OptimizedMethod,
        state: State,
        spec: DatasetSpec,
        point: tuple[dict[str, torch.Tensor], Any] | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.method, self.state, self.spec, self.pixels = method, state, spec, state.pixels
        self._tensors, notes = point or ({}, {"iteration": 0, "history": [[] for _ in state.blocks]})
        self.first: int = notes["iteration"]
        self.history: list[list[list[float]]] = notes["history"]
        if self._tensors:
            with torch.no_grad():
                self.pixels.copy_(self._tensors["pixels"])
                for name, tensor in method.tensors(state).items():
                    tensor.copy_(self._tensors[METHOD + name])
        # One bound for each pixel: broadcasting over three channels that lie side by side is many times slower.
        shape = (1, -1, spec.size, spec.size)
        self.low, self.high = (
            bound.to(state.pixels.device).expand(shape).contiguous(memory_format=torch.channels_last)
            for bound in spec.pixel_bounds()
        )
        self.terms: dict[str, torch.Tensor] = {}
        self._unchecked: list[tuple[int, torch.Tensor]] = []
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
        values = [term.float().expand(len(self.state.blocks)) for term in self.terms.values()]
        self._unchecked.append((batch, torch.stack(values)))
        optimizer.step()  # type: ignore[union-attr]
        self.clamp()
        if batch % LOG_EVERY == 0 or batch == self.method.iterations - 1:
            self._record(batch, self.check())
        schedule.step()  # type: ignore[union-attr]

    @torch.no_grad()
    def clamp(self) -> None:
        self.pixels.clamp_(self.low, self.high)

    def check(self) -> list[list[float]]:
        """Look at all that was computed since the last check; this waits for the device.

        Returns:
            The last value of each term in each block.

        Raises:
            Diverged: a term or a pixel is not finite; the message is the first place.
        """
        recent, blocks = self._unchecked, self.state.blocks
        values: list[list[list[float]]] = torch.stack([one for _, one in recent]).tolist() if recent else []
        self._unchecked = []
        names = list(self.terms)
        found = [
            f"block {block.index}, iteration {iteration} ({name} is {value})"
            for (iteration, _), terms in zip(recent, values, strict=True)
            for name, row in zip(names, terms, strict=True)
            for block, value in zip(blocks, row, strict=True)
            if not math.isfinite(value)
        ]
        finite = torch.isfinite(self.pixels.detach()).flatten(1).all(1).view(len(blocks), -1).all(1).tolist()
        found += [f"block {block.index} (pixels)" for block, good in zip(blocks, finite, strict=True) if not good]
        if found:
            inner = self.method.tensors(self.state).items()
            layers = [name for name, tensor in inner if not torch.isfinite(tensor).all()]
            raise Diverged(found[0] + (f", then in {layers[0]}" if layers else ""))
        return values[-1] if values else []

    def _record(self, iteration: int, values: list[list[float]]) -> None:
        blocks = self.state.blocks
        for own, rows in zip(zip(*values, strict=True), self.history, strict=True):
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
    """Keep pictures of the first block, one image of each class, as ``snapshots/<iteration>.safetensors``.

    The first iteration and the last have one as well.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self._folder, self._every = folder / "snapshots", every

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: int, batch_idx: int) -> None:
        block, done = module.state.blocks[0], batch + 1
        if block.index or not self._every or (done % self._every and done not in (1, module.method.iterations)):
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
        module.check()  # what cannot be recovered from is not kept
        inner = {METHOD + name: tensor for name, tensor in module.method.tensors(module.state).items()}
        tensors = {"pixels": module.pixels, **inner, **optimizer_tensors(trainer.optimizers[0])}
        save_point(self._path, tensors, {"iteration": done, "history": module.history})
