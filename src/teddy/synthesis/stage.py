"""From a pool to a folder of images: the distilled set, or random real images to compare it with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import Logger

from teddy.artifacts.store import Artifact, ArtifactStore
from teddy.data.dataset import RealDataset
from teddy.data.distilled import export_images, load_distilled
from teddy.data.images import TensorImages
from teddy.data.spec import DatasetSpec
from teddy.runtime.memory import PeakMemory
from teddy.runtime.precision import Compute
from teddy.runtime.resume import load_tensors
from teddy.synthesis.initial import random_images
from teddy.synthesis.job import SynthesisJob
from teddy.synthesis.module import block_file
from teddy.synthesis.ranks import optimise_blocks

IMAGES = "images"
RANDOM_VERSION = 1


@dataclass(frozen=True)
class Frame:
    """Some images of a block after ``iteration`` iterations: their classes (n,) and pixels, uint8 (n, C, H, W)."""

    iteration: int
    classes: tuple[int, ...]
    images: torch.Tensor


@dataclass(frozen=True)
class ImageFolderArtifact:
    """A finished set of IPC images per class as an ImageFolder of PNGs."""

    artifact: Artifact
    spec: DatasetSpec

    @property
    def folder(self) -> Path:
        """The ImageFolder."""
        return self.artifact.folder / IMAGES

    @property
    def fingerprint(self) -> str:
        """Names these images for the stages that read them."""
        return self.artifact.fingerprint

    @property
    def seconds(self) -> float:
        """How long the making took, over all runs that had a part in it."""
        return float(self.artifact.facts["seconds"])

    @property
    def peak_memory_mb(self) -> float | None:
        """Peak memory of the optimisation in MB; of its last part, where a killed run had done the first."""
        return self.artifact.facts.get("peak_memory_mb")

    @cached_property
    def images(self) -> TensorImages:
        """The exported 8-bit images, in the order of classes and slots."""
        return load_distilled(self.folder, self.spec)

    @property
    def history(self) -> list[list[list[float]]]:
        """Recorded losses, block by block: rows of iteration, total, cross-entropy, statistics."""
        return self.artifact.facts.get("history", [])

    def frames(self) -> list[Frame]:
        """Pictures of the first block on its way, early to late; none of real images."""
        paths = sorted((self.artifact.folder / "frames").glob("*.safetensors"))
        loaded = [load_tensors(path) for path in paths]
        return [Frame(notes["iteration"], tuple(notes["classes"]), tensors["images"]) for tensors, notes in loaded]


def distil(store: ArtifactStore, job: SynthesisJob, compute: Compute, logger: Logger) -> ImageFolderArtifact:
    """Runs a synthesis job, or finds its images in the store.

    Raises:
        StageFailed: the optimisation diverged or the disk is full.
    """

    def build(folder: Path) -> dict[str, Any]:
        memory = PeakMemory(compute.accelerator)
        optimise_blocks(job, folder, compute, logger)
        # Processes that were started for several devices have their own memory, which is not seen from here.
        peak = {"peak_memory_mb": memory.megabytes()} if compute.devices == 1 else {}
        images, labels, history = _in_class_order(job, folder)
        export_images(folder / IMAGES, images, labels, job.pool.spec)
        return {"method": "distilled", "ipc": job.ipc, "history": history, **peak}

    artifact = store.produce("images", job.content(compute.precision), build)
    return ImageFolderArtifact(artifact, job.pool.spec)


def random_real(store: ArtifactStore, dataset: RealDataset, ipc: int, seed: int) -> ImageFolderArtifact:
    """Random real training images, IPC of each class: the baseline of every results table (invariant 8)."""

    def build(folder: Path) -> dict[str, Any]:
        chosen = random_images(dataset.train, dataset.spec.num_classes, ipc, seed).flatten()
        export_images(folder / IMAGES, dataset.train.take(chosen), dataset.train.labels[chosen], dataset.spec)
        return {"method": "random", "ipc": ipc}

    content = {"version": RANDOM_VERSION, "random": dataset.fingerprint, "ipc": ipc, "seed": seed}
    return ImageFolderArtifact(store.produce("images", content, build), dataset.spec)


def _in_class_order(job: SynthesisJob, folder: Path) -> tuple[torch.Tensor, torch.Tensor, list[list[list[float]]]]:
    """All images (N, C, H, W) by class and slot, their labels (N,), and the losses of each block.

    One block after the other goes to its place: ImageNet at IPC 100 is 15 GB, which must not lie in memory twice.
    """
    spec, history = job.pool.spec, []
    images = torch.empty((spec.num_classes * job.ipc, spec.channels, spec.size, spec.size), dtype=torch.uint8)
    for block in job.blocks():
        tensors, notes = load_tensors(block_file(folder, block))
        images[tensors["labels"] * job.ipc + tensors["slots"]] = tensors["images"]
        history.append(notes["history"])
    return images, torch.arange(spec.num_classes).repeat_interleave(job.ipc), history
