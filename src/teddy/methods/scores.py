"""Coresets by scores: the real images of each class that rank first by how the pool's members predict them.

The pool is the scoring run: its members stand for the epochs of a short training. Every image is scored once, as it is, for all
methods, IPC and seeds.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch.nn import functional as F

from teddy.config.errors import UserError
from teddy.config.types import Count
from teddy.data.batches import eval_batches
from teddy.runtime.device import DeviceConfig
from teddy.runtime.progress import StageProgress
from teddy.runtime.resume import load_tensors, save_tensors
from teddy.synthesis.init import class_members, first_of
from teddy.synthesis.method import Inputs, Method, Needs, Run, SyntheticSet

SCORES_VERSION = 1
SCORES = "scores.safetensors"


def load_scores(inputs: Inputs, device_config: DeviceConfig) -> dict[str, torch.Tensor]:
    """The scores of :func:`measure`, from the store if they are there."""
    content = {"version": SCORES_VERSION, "pool": inputs.pool.fingerprint, **device_config.fingerprint}

    def build(folder: Path) -> dict[str, Any]:
        save_tensors(folder / SCORES, measure(inputs, device_config))
        return {}

    return load_tensors(inputs.artifact("scores", content, build).file(SCORES))[0]


@torch.no_grad()
def measure(inputs: Inputs, device_config: DeviceConfig) -> dict[str, torch.Tensor]:
    """Score every training image under every member of the pool, float32 (members, N).

    ``probability`` is p(y|x), and ``el2n`` the norm of the error, ``||p(.|x) - onehot(y)||_2`` (Paul et al., NeurIPS 2021).
    """
    spec, train, device = inputs.spec, inputs.train, device_config.device
    teachers = inputs.pool.load_teachers(device_config)
    scores = {name: torch.empty(len(teachers), len(train)) for name in ("probability", "el2n")}
    with StageProgress("scores", len(train), "images") as progress:
        for images, labels, indices in eval_batches(train, device_config.workers):
            pixels = spec.normalise(images.to(device)).contiguous(memory_format=torch.channels_last)
            own = F.one_hot(labels.to(device), spec.num_classes)
            for row, teacher in enumerate(teachers):
                with device_config.autocast():
                    logits = teacher(pixels)
                predicted = logits.float().softmax(1)
                scores["probability"][row, indices] = (predicted * own).sum(1).cpu()
                scores["el2n"][row, indices] = (predicted - own).norm(dim=1).cpu()
            progress.advance(len(labels))
    return scores


@dataclass(frozen=True, kw_only=True)
class Scored(Method):
    """The IPC images of each class with the highest rank; a class with fewer images starts over."""

    def needs(self) -> Needs:
        return Needs(pool=True, data=True)

    @abstractmethod
    def rank(self, scores: dict[str, torch.Tensor]) -> torch.Tensor:
        """The rank of each training image (N,) from the scores of :func:`measure`."""

    def synthesize(self, inputs: Inputs, run: Run) -> SyntheticSet:
        train = inputs.train
        rank = self.rank(load_scores(inputs, run.device_config))
        classes = [class_members(train, label) for label in range(inputs.spec.num_classes)]
        ordered = [members[rank[members].argsort(descending=True, stable=True)] for members in classes]
        chosen = torch.cat([first_of(members, self.ipc) for members in ordered])
        return SyntheticSet(train.take(chosen), train.labels[chosen])


@dataclass(frozen=True, kw_only=True)
class EL2N(Scored):
    """The easiest images: those with the smallest EL2N, the mean over the members, as small budgets want them."""

    citation: ClassVar[str] = "Paul et al., Deep Learning on a Data Diet, NeurIPS 2021 (arXiv 2107.07075)"

    def rank(self, scores: dict[str, torch.Tensor]) -> torch.Tensor:
        return -scores["el2n"].mean(0)


@dataclass(frozen=True, kw_only=True)
class CADPrune(Scored):
    """The images that the pool is about to learn: those whose p(y|x) varies most between its last members.

    U_k is the standard deviation of p(y|x) over the ``window`` members from k on; CAD is the mean of the last U_k.
    """

    window: Annotated[int, Field(ge=2)]
    last: Count  # so many U_k, or all where the pool has fewer

    citation: ClassVar[str] = (
        "Dey et al., Rethinking Dataset Distillation: Hard Truths about Soft Labels, CVPR 2026 (arXiv 2604.18811)"
    )

    def check(self, members: int | None) -> None:
        if members is not None and self.window > members:
            raise UserError(
                f"methods.cad_prune.window={self.window} is more than the pool's {members} teachers; lower it, to 2 at least, or "
                "enlarge the pool (pool.first, pool.last, pool.every, pool.size)."
            )

    def rank(self, scores: dict[str, torch.Tensor]) -> torch.Tensor:
        self.check(len(scores["probability"]))  # of a pool whose size was not known before
        windows = scores["probability"].unfold(0, self.window, 1)  # (members - window + 1, N, window)
        return windows.std(-1)[-self.last :].mean(0)
