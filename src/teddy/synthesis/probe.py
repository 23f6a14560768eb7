"""The student probe: during synthesis, the held-out accuracy of a small student of the present images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.nn import functional as F

from teddy.artifacts.store import atomic_write
from teddy.data.images import ImageSet
from teddy.data.spec import DatasetSpec
from teddy.models.networks import build_network
from teddy.runtime import metrics, seeding
from teddy.runtime.loggers import StageLogger

NETWORK = "convnet3_w32_in"  # InstanceNorm learns from any number of images
STEPS, BATCH, LR = 60, 100, 1e-3  # of Adam: a second on a CPU
TESTED = 1000  # held-out images, at most


class StudentProbe(L.Callback):
    """Train a student on the first group of blocks every ``every`` iterations and note its top-1 accuracy in percent.

    The images do not depend on it: it draws from random numbers of its own, and changes nothing but its file
    ``probe_<method>.csv`` in the run's folder.

    Args:
        held: real training images that neither teachers nor methods see.
    """

    def __init__(self, every: int, held: ImageSet, method: str) -> None:
        self._every, self._held, self._file = every, held, f"probe_{method}.csv"

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: int, batch_idx: int) -> None:
        """Measure when it is time: after the first iteration, and after every n-th."""
        block, done = module.state.blocks[0], batch + 1
        if block.index or (done % self._every and done != 1) or not isinstance(trainer.logger, StageLogger):
            return
        top1 = self.measure(module.state.images.detach(), module.state.labels, module.spec, done)
        path = Path(trainer.logger.save_dir) / self._file
        rows = path.read_text().splitlines()[1:] if path.is_file() else []
        rows = [row for row in rows if int(row.split(",")[1]) < done]  # a killed run may have come further
        atomic_write(path, "\n".join(["block,iteration,top1", *rows, f"0,{done},{top1:.2f}\n"]))
        trainer.logger.log_metrics({metrics.SYNTHESIS_PROBE: top1}, step=batch - module.first)

    def measure(self, images: torch.Tensor, labels: torch.Tensor, spec: DatasetSpec, iteration: int) -> float:
        """Train a new student on normalised images (N, C, H, W) and their classes (N,), and test it."""
        device = images.device
        student = build_network(NETWORK, spec.num_classes, spec.channels, spec.size, seeding.stable_seed("probe"))
        optimizer = torch.optim.Adam(student.to(device).parameters(), LR)
        for step in range(STEPS):
            chosen = torch.from_numpy(seeding.permutation(len(images), "probe", iteration, step)[:BATCH]).to(device)
            loss = F.cross_entropy(student(images[chosen].float()), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        student.eval()
        tested = torch.linspace(0, len(self._held) - 1, min(TESTED, len(self._held))).long()
        right = 0
        with torch.no_grad():
            for part in tested.split(BATCH):
                logits = student(spec.normalise(self._held.take(part)).to(device))
                right += int((logits.argmax(1).cpu() == self._held.labels[part]).sum())
        return 100 * right / len(tested)
