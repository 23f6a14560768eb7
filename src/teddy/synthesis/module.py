"""The Lightning module whose parameters are pixels: one training epoch optimises one group of blocks."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn

from teddy.config.errors import StageFailed
from teddy.runtime import metrics
from teddy.runtime.loggers import StageLogger
from teddy.runtime.resume import load_tensors, optimizer_tensors, restore_optimizer, save_tensors
from teddy.synthesis.blocks import TEACHER_POLICIES, Block
from teddy.synthesis.compiled import compiled_summands
from teddy.synthesis.initial import INITIAL
from teddy.synthesis.job import LOG_EVERY, SynthesisJob
from teddy.synthesis.objective import Summand, Terms, ensemble_gradient, summands

SHEET_IMAGES = 20
"""Images of the first block that are pictured while it is optimised."""


def block_file(folder: Path, block: Block) -> Path:
    """Where a finished block lies; its presence means done. The store removes it once the images are finished."""
    return folder / ".blocks" / f"{block.index:05d}.safetensors"


def resume_file(folder: Path, group: Sequence[Block]) -> Path:
    """Where a group that is being optimised leaves its last point to go on from."""
    return folder / f".resume-{group[0].index:05d}.safetensors"


def is_done(folder: Path, group: Sequence[Block]) -> bool:
    """Whether a group is finished; one that was killed while its blocks were written is not."""
    return all(block_file(folder, block).is_file() for block in group)


def iterations_done(folder: Path, group: Sequence[Block]) -> int:
    """How many iterations an earlier run left of a group that is not finished."""
    path = resume_file(folder, group)
    return int(load_tensors(path)[1]["iteration"]) if path.is_file() else 0


def views_of(job: SynthesisJob, group: Sequence[Block], pixels: torch.Tensor, iteration: int) -> torch.Tensor:
    """Each block's own view in an iteration, (N, C, H, W), of the pixels of a group; differentiable."""
    with torch.autocast(pixels.device.type, enabled=False):
        parts = zip(group, pixels.chunk(len(group)), strict=True)
        views = [job.view(part, job.seed, block.index, iteration) for block, part in parts]
    return (views[0] if len(views) == 1 else torch.cat(views)).contiguous(memory_format=torch.channels_last)


def bounds_of(job: SynthesisJob, device: torch.device) -> tuple[torch.Tensor, ...]:
    """The normalised values of black and white, each (1, C, H, W).

    One for each pixel: broadcasting over three channels that lie side by side would be many times slower.
    """
    size = job.pool.spec.size
    return tuple(
        bound.to(device).expand(1, -1, size, size).contiguous(memory_format=torch.channels_last)
        for bound in job.pool.spec.pixel_bounds()
    )


def is_flat(losses: Sequence[float], plateau: float, window: int = 5) -> bool:
    """Whether the mean of the last ``window`` losses is less than ``plateau`` times below that of the ``window`` before them."""
    if len(losses) < 2 * window:
        return False
    before, after = sum(losses[-2 * window : -window]), sum(losses[-window:])
    return before - after < plateau * before


class PixelSynthesis(L.LightningModule):
    """Optimises blocks of pixels against the pool (Eq. 7), one group per epoch, and writes each block when it is done.

    The blocks of a group go through the teachers together and share nothing else: views, statistics and teachers are each
    block's own, and Adam knows no neighbours. So a large device is full at small images too.

    Args:
        groups: the blocks to do, in this order.
        folder: receives the finished blocks, ``frames/`` (pictures on the way) and the points to resume from.
        weights: type of the teachers' convolutions, as in :meth:`ModelPool.load`.
    """

    def __init__(
        self, job: SynthesisJob, groups: Sequence[Sequence[Block]], folder: Path, weights: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.job = job
        self.groups = list(groups)
        self.folder = folder
        self.weights = weights
        self.pixels = nn.Parameter(torch.empty(0))
        # No attribute of the module: a teacher is neither trained nor saved with the pixels.
        self._teachers: list[Summand] = []
        self.iteration = 0
        self.history: list[list[list[float]]] = []
        self.terms: Terms | None = None

    @property
    def group(self) -> Sequence[Block]:
        """The blocks of the current epoch."""
        return self.groups[self.current_epoch]

    @property
    def shown_loss(self) -> torch.Tensor | None:
        """The mean of Eq. 7 over the group's blocks, for the progress display."""
        return None if self.terms is None else self.terms.total.mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam on the pixels (Table 7)."""
        job = self.job
        return torch.optim.Adam([self.pixels], lr=job.lr, betas=job.betas, weight_decay=job.weight_decay, fused=True)

    def train_dataloader(self) -> range:
        """One step per iteration; there are no data to load."""
        return range(self.job.iterations)

    def on_fit_start(self) -> None:
        """Brings the teachers to the device, once for all blocks."""
        pool = self.job.pool
        networks = [pool.load(index, self.device, self.weights) for index in range(len(pool))]
        make = compiled_summands if self.job.compile else summands
        self._teachers = make(networks, self.job.weights)
        self._low, self._high = bounds_of(self.job, self.device)

    def on_train_epoch_start(self) -> None:
        """Starts the epoch's blocks with fresh pixels and a fresh optimizer, or where a killed run left them."""
        optimizer = self.trainer.optimizers[0]
        optimizer.state.clear()
        job, group = self.job, self.group
        self.labels = torch.tensor([label for block in group for label in block.classes], device=self.device)
        if self._resume_file.is_file():
            tensors, notes = load_tensors(self._resume_file)
            self._set_pixels(tensors["pixels"])
            restore_optimizer(optimizer, tensors)
            self.iteration, self.history = notes["iteration"], notes["history"]
            return
        start = [INITIAL[job.initial](block, job.pool.spec, job.train, job.ipc, job.seed) for block in group]
        self._set_pixels(torch.cat(start))
        self._clamp()
        self.iteration, self.history = 0, [[] for _ in group]

    def on_train_batch_start(self, batch: int, batch_idx: int) -> int | None:
        """Sets the iteration's learning rate (cosine to 0), or ends the group; -1 is Lightning's word for that."""
        if self.iteration == self.job.iterations or self._is_flat():
            return -1
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.job.lr * 0.5 * (1 + math.cos(math.pi * self.iteration / self.job.iterations))
        return None

    def training_step(self, batch: int, batch_idx: int) -> torch.Tensor:
        """The value of Eq. 7 on the iteration's views; its gradient goes to the pixels in :meth:`backward`."""
        view = views_of(self.job, self.group, self.pixels, self.iteration)
        gradient, self.terms = ensemble_gradient(self._plan(), view, self.labels, len(self.group))
        self._to_pixels = functools.partial(view.backward, gradient)
        return self.terms.total.sum()

    def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """The chain rule's last link: the gradient with respect to the views, on through the views to the pixels."""
        self._to_pixels()
        del self._to_pixels  # it holds a graph of pixels of this shape, and the next group may be smaller

    def on_train_batch_end(self, outputs: object, batch: int, batch_idx: int) -> None:
        """Keeps the pixels displayable, counts, records, pictures and saves."""
        self._clamp()
        if self.iteration % LOG_EVERY == 0 or self.iteration == self.job.iterations - 1:
            self._record()
        self.iteration += 1
        every = self.job.sheet_every
        if self.group[0].index == 0 and every and (self.iteration % every == 0 or self.iteration == 1):
            self._save_frame()  # before the point: a run that goes on from there does not come back here
        every = self.job.checkpoint_every
        if every and self.iteration % every == 0 and self.iteration < self.job.iterations:
            tensors = {"pixels": self.pixels, **optimizer_tensors(self.trainer.optimizers[0])}
            save_tensors(self._resume_file, tensors, {"iteration": self.iteration, "history": self.history})

    def on_train_epoch_end(self) -> None:
        """Writes the finished blocks as the 8-bit images that everything after this stage sees (invariant 5)."""
        images = self.job.pool.spec.denormalise(self.pixels.detach()).cpu()
        for block, part, history in zip(self.group, images.chunk(len(self.group)), self.history, strict=True):
            target = block_file(self.folder, block)
            target.parent.mkdir(parents=True, exist_ok=True)
            labels, slots = torch.tensor(block.classes), torch.tensor(block.slots)
            save_tensors(target, {"images": part, "labels": labels, "slots": slots}, {"history": history})
        self._resume_file.unlink(missing_ok=True)

    @property
    def _resume_file(self) -> Path:
        return resume_file(self.folder, self.group)

    def _is_flat(self) -> bool:
        """Whether every block's loss has stopped falling, by what is recorded, so that a resumed run ends where it would have."""
        plateau = self.job.plateau
        return plateau is not None and all(is_flat([row[1] for row in lines], plateau) for lines in self.history)

    def _plan(self) -> list[tuple[Summand, list[int]]]:
        """The iteration's teachers, each with the blocks that it looks at, by their places in the group."""
        job, members = self.job, len(self.job.pool)
        policy = TEACHER_POLICIES[job.teacher_policy]
        drawn = [policy(block, self.iteration, members, job.teachers_per_block, job.seed) for block in self.group]
        looks_at = {
            member: [place for place, chosen in enumerate(drawn) if member in chosen] for member in range(members)
        }
        return [(self._teachers[member], places) for member, places in looks_at.items() if places]

    def _set_pixels(self, values: torch.Tensor) -> None:
        self.pixels.data = values.to(self.device, torch.float32).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def _clamp(self) -> None:
        self.pixels.clamp_(self._low, self._high)

    def _record(self) -> None:
        assert self.terms is not None
        values = torch.stack([self.terms.total, self.terms.ce, self.terms.bn]).tolist()
        for block, own, lines in zip(self.group, zip(*values, strict=True), self.history, strict=True):
            if not all(map(math.isfinite, own)):
                raise StageFailed(
                    f"synthesis diverged in block {block.index}, iteration {self.iteration}; lower synthesis.lr={self.job.lr}."
                )
            lines.append([self.iteration, *own])
        if self.trainer.logger is not None:
            names = (metrics.SYNTHESIS_LOSS, metrics.SYNTHESIS_LOSS_CE, metrics.SYNTHESIS_LOSS_BN)
            means = [sum(row) / len(row) for row in values]
            first = self.group[0].index
            where = {metrics.SYNTHESIS_BLOCK: first, metrics.SYNTHESIS_ITERATION: self.iteration}
            step = first * self.job.iterations + self.iteration
            self.trainer.logger.log_metrics({**dict(zip(names, means, strict=True)), **where}, step=step)

    def _save_frame(self) -> None:
        folder = self.folder / "frames"
        folder.mkdir(exist_ok=True)
        block = self.group[0]
        # The first image of as many classes as fit, by class, so that the pictures of all runs can be compared.
        firsts = [i for i, slot in enumerate(block.slots) if slot == block.slots[0]]
        firsts = sorted(firsts, key=lambda i: block.classes[i])[:SHEET_IMAGES]
        images = self.job.pool.spec.denormalise(self.pixels.detach()[firsts]).cpu()
        classes = [block.classes[i] for i in firsts]
        notes = {"iteration": self.iteration, "classes": classes}
        save_tensors(folder / f"{self.iteration:06d}.safetensors", {"images": images}, notes)
        if isinstance(self.trainer.logger, StageLogger):
            names = ", ".join(self.job.pool.spec.class_names[label] for label in classes)
            caption = f"iteration {self.iteration}: {names}"
            self.trainer.logger.log_image(metrics.SYNTHESIS_IMAGES, images, self.iteration, caption)
