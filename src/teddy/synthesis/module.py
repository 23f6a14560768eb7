"""The Lightning module whose parameters are pixels: one training epoch optimises one block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import lightning as L
import torch
from torch import nn

from teddy.config.errors import StageFailed
from teddy.runtime import metrics
from teddy.runtime.loggers import StageLogger
from teddy.runtime.resume import load_tensors, optimizer_tensors, restore_optimizer, save_tensors
from teddy.synthesis.blocks import TEACHER_POLICIES, Block
from teddy.synthesis.initial import INITIAL
from teddy.synthesis.job import LOG_EVERY, SynthesisJob
from teddy.synthesis.objective import Terms, ensemble_gradient
from teddy.synthesis.statistics import MatchedTeacher

SHEET_IMAGES = 20
"""Images of the first block that are pictured while it is optimised."""


def block_file(folder: Path, block: Block) -> Path:
    """Where a finished block lies; its presence means done. The store removes it once the images are finished."""
    return folder / ".blocks" / f"{block.index:05d}.safetensors"


def resume_file(folder: Path, block: Block) -> Path:
    """Where a block that is being optimised leaves its last point to go on from."""
    return folder / f".resume-{block.index:05d}.safetensors"


def iterations_done(folder: Path, block: Block) -> int:
    """How many iterations an earlier run left of a block that is not finished."""
    path = resume_file(folder, block)
    return int(load_tensors(path)[1]["iteration"]) if path.is_file() else 0


class PixelSynthesis(L.LightningModule):
    """Optimises blocks of pixels against the pool (Eq. 7), one block per epoch, and writes each when it is done.

    Args:
        blocks: the blocks to do, in this order.
        folder: receives the finished blocks, ``frames/`` (pictures on the way) and the points to resume from.
    """

    def __init__(self, job: SynthesisJob, blocks: Sequence[Block], folder: Path) -> None:
        super().__init__()
        self.job = job
        self.blocks = list(blocks)
        self.folder = folder
        self.pixels = nn.Parameter(torch.empty(0))
        # No attribute of the module: a teacher is neither trained nor saved with the pixels.
        self._teachers: list[MatchedTeacher] = []
        self.iteration = 0
        self.history: list[list[float]] = []
        self.terms: Terms | None = None

    @property
    def block(self) -> Block:
        """The block of the current epoch."""
        return self.blocks[self.current_epoch]

    @property
    def shown_loss(self) -> torch.Tensor | None:
        """The value of Eq. 7 for the progress display; what ``training_step`` returns is no loss."""
        return None if self.terms is None else self.terms.total

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam on the pixels (Table 7)."""
        job = self.job
        return torch.optim.Adam([self.pixels], lr=job.lr, betas=job.betas, weight_decay=job.weight_decay)

    def train_dataloader(self) -> range:
        """One step per iteration; there are no data to load."""
        return range(self.job.iterations)

    def on_fit_start(self) -> None:
        """Brings the teachers to the device, once for all blocks."""
        pool = self.job.pool
        self._teachers = [MatchedTeacher(pool.load(index, self.device)) for index in range(len(pool))]
        self._low, self._high = (bound.to(self.device) for bound in pool.spec.pixel_bounds())

    def on_train_epoch_start(self) -> None:
        """Starts the epoch's block with fresh pixels and a fresh optimizer, or where a killed run left it."""
        optimizer = self.trainer.optimizers[0]
        optimizer.state.clear()
        self.labels = torch.tensor(self.block.classes, device=self.device)
        if self._resume_file.is_file():
            tensors, notes = load_tensors(self._resume_file)
            self._set_pixels(tensors["pixels"])
            restore_optimizer(optimizer, tensors)
            self.iteration, self.history = notes["iteration"], notes["history"]
            return
        job = self.job
        start = INITIAL[job.initial](self.block, job.pool.spec, job.train, job.ipc, job.seed)
        self._set_pixels(start)
        self._clamp()
        self.iteration, self.history = 0, []

    def on_train_batch_start(self, batch: int, batch_idx: int) -> int | None:
        """Sets the iteration's learning rate (cosine to 0), or ends the block; -1 is Lightning's word for that."""
        if self.iteration == self.job.iterations:
            return -1
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.job.lr * 0.5 * (1 + math.cos(math.pi * self.iteration / self.job.iterations))
        return None

    def training_step(self, batch: int, batch_idx: int) -> torch.Tensor:
        """A scalar whose gradient with respect to the pixels is that of Eq. 7 on the iteration's view."""
        job, block = self.job, self.block
        chosen = TEACHER_POLICIES[job.teacher_policy](
            block, self.iteration, len(job.pool), job.teachers_per_block, job.seed
        )
        with torch.autocast(self.device.type, enabled=False):
            view = job.view(self.pixels, job.seed, block.index, self.iteration)
        view = view.contiguous(memory_format=torch.channels_last)
        teachers = [self._teachers[member] for member in chosen]
        gradient, self.terms = ensemble_gradient(teachers, view, self.labels, job.weights)
        # d/dpixels of <view(pixels), g> with g held fixed is the chain rule's last link: g through the view.
        return (view * gradient).sum()

    def on_train_batch_end(self, outputs: object, batch: int, batch_idx: int) -> None:
        """Keeps the pixels displayable, counts, records, pictures and saves."""
        self._clamp()
        if self.iteration % LOG_EVERY == 0 or self.iteration == self.job.iterations - 1:
            self._record()
        self.iteration += 1
        every = self.job.sheet_every
        if self.block.index == 0 and every and (self.iteration % every == 0 or self.iteration == 1):
            self._save_frame()  # before the point: a run that goes on from there does not come back here
        every = self.job.checkpoint_every
        if every and self.iteration % every == 0 and self.iteration < self.job.iterations:
            tensors = {"pixels": self.pixels, **optimizer_tensors(self.trainer.optimizers[0])}
            save_tensors(self._resume_file, tensors, {"iteration": self.iteration, "history": self.history})

    def on_train_epoch_end(self) -> None:
        """Writes the finished block as the 8-bit images that everything after this stage sees (invariant 5)."""
        target = block_file(self.folder, self.block)
        target.parent.mkdir(parents=True, exist_ok=True)
        images = self.job.pool.spec.denormalise(self.pixels.detach()).cpu()
        labels, slots = torch.tensor(self.block.classes), torch.tensor(self.block.slots)
        save_tensors(target, {"images": images, "labels": labels, "slots": slots}, {"history": self.history})
        self._resume_file.unlink(missing_ok=True)

    @property
    def _resume_file(self) -> Path:
        return resume_file(self.folder, self.block)

    def _set_pixels(self, values: torch.Tensor) -> None:
        self.pixels.data = values.to(self.device, torch.float32).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def _clamp(self) -> None:
        self.pixels.data = torch.minimum(torch.maximum(self.pixels.data, self._low), self._high)

    def _record(self) -> None:
        assert self.terms is not None
        values = [float(term) for term in (self.terms.total, self.terms.ce, self.terms.bn)]
        if not all(map(math.isfinite, values)):
            raise StageFailed(
                f"synthesis diverged in block {self.block.index}, iteration {self.iteration}; lower synthesis.lr={self.job.lr}."
            )
        self.history.append([self.iteration, *values])
        if self.trainer.logger is not None:
            names = (metrics.SYNTHESIS_LOSS, metrics.SYNTHESIS_LOSS_CE, metrics.SYNTHESIS_LOSS_BN)
            step = self.block.index * self.job.iterations + self.iteration
            where = {metrics.SYNTHESIS_BLOCK: self.block.index, metrics.SYNTHESIS_ITERATION: self.iteration}
            self.trainer.logger.log_metrics({**dict(zip(names, values, strict=True)), **where}, step=step)

    def _save_frame(self) -> None:
        folder = self.folder / "frames"
        folder.mkdir(exist_ok=True)
        # The first image of as many classes as fit, by class, so that the pictures of all runs can be compared.
        firsts = [i for i, slot in enumerate(self.block.slots) if slot == self.block.slots[0]]
        firsts = sorted(firsts, key=lambda i: self.block.classes[i])[:SHEET_IMAGES]
        images = self.job.pool.spec.denormalise(self.pixels.detach()[firsts]).cpu()
        classes = [self.block.classes[i] for i in firsts]
        notes = {"iteration": self.iteration, "classes": classes}
        save_tensors(folder / f"{self.iteration:06d}.safetensors", {"images": images}, notes)
        if isinstance(self.trainer.logger, StageLogger):
            names = ", ".join(self.job.pool.spec.class_names[label] for label in classes)
            caption = f"iteration {self.iteration}: {names}"
            self.trainer.logger.log_image(metrics.SYNTHESIS_IMAGES, images, self.iteration, caption)
