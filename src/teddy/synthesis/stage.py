"""The synthesis stage: from a method and its inputs to a folder of images in the store."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import torch

from teddy.artifacts.store import Artifact, ArtifactStore
from teddy.data.distilled import export_images, load_distilled
from teddy.data.images import TensorImages
from teddy.data.spec import DatasetSpec
from teddy.data.tiles import decode_tiles
from teddy.runtime.device import DeviceConfig
from teddy.runtime.distributed import is_leader
from teddy.runtime.memory import PeakMemory
from teddy.runtime.resume import load_tensors
from teddy.synthesis.engine import TERMS
from teddy.synthesis.method import Inputs, Method, Run

IMAGES = "images"
DECODED = "decoded_images"


@dataclass(frozen=True)
class Snapshot:
    """Some images after ``iteration`` iterations: their classes (n,) and pixels, uint8 (n, C, H, W)."""

    iteration: int
    classes: tuple[int, ...]
    images: torch.Tensor


class SyntheticImages(Protocol):
    """What labels and students read of a synthetic set: 8-bit images as students see them, and a learning rate if it has one."""

    @property
    def spec(self) -> DatasetSpec: ...

    @property
    def images(self) -> TensorImages: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def learned_lr(self) -> float | None: ...


@dataclass(frozen=True)
class ImageFolderArtifact:
    """A finished synthetic set of IPC images per class as an ImageFolder of PNGs."""

    artifact: Artifact
    spec: DatasetSpec

    @property
    def folder(self) -> Path:
        return self.artifact.folder / IMAGES

    @property
    def fingerprint(self) -> str:
        return self.artifact.fingerprint

    @property
    def seconds(self) -> float:
        """Time of the synthesis, over all runs that had a part in it."""
        return float(self.artifact.facts["seconds"])

    @property
    def peak_memory_mb(self) -> float | None:
        """Peak memory of the optimisation in MB; of its last part, where a killed run had done the first."""
        return self.artifact.facts.get("peak_memory_mb")

    @cached_property
    def images(self) -> TensorImages:
        """The exported 8-bit images, in the order of classes and slots; of images with tiles, the enlarged tiles."""
        facts, spec, tiles = self.artifact.facts, self.spec, self.artifact.facts.get("tiles", 1)
        if self.artifact.planned:  # black ones
            labels = torch.arange(spec.num_classes).repeat_interleave(facts["ipc"] * tiles**2)
            black = torch.zeros((), dtype=torch.uint8).expand(len(labels), spec.channels, spec.size, spec.size)
            return TensorImages(black, labels)
        return load_distilled(self.folder, spec, tiles)

    @property
    def learned_lr(self) -> float | None:
        return self.artifact.facts.get("learned_lr")

    @property
    def terms(self) -> Path | None:
        """The recorded terms of the objective (CSV); None for a set that was not optimised."""
        path = self.artifact.folder / TERMS
        return path if path.is_file() else None

    def snapshots(self) -> list[Snapshot]:
        """Pictures of the first block during synthesis, early to late; none of a set that was not optimised."""
        paths = sorted((self.artifact.folder / "snapshots").glob("*.safetensors"))
        loaded = [load_tensors(path) for path in paths]
        return [Snapshot(notes["iteration"], tuple(notes["classes"]), tensors["images"]) for tensors, notes in loaded]


def synthesize(
    store: ArtifactStore,
    method: Method,
    inputs: Inputs,
    device_config: DeviceConfig,
    *,
    seed: int,
    name: str,
    **options: Any,
) -> ImageFolderArtifact:
    """Make a method's synthetic set, or find it in the store; the keywords are fields of :class:`Run`."""

    def build(folder: Path) -> dict[str, Any]:
        memory = PeakMemory(device_config.accelerator)
        made = method.synthesize(inputs, Run(folder, device_config, seed, name=name, **options))
        # Other processes have memory of their own, which is not seen from here.
        peak = {"peak_memory_mb": memory.megabytes()} if device_config.processes == 1 else {}
        if is_leader():
            export_images(folder / IMAGES, made.images, made.labels, inputs.spec)
            if made.tiles > 1:  # for whoever reads the folder without the rule
                decoded = decode_tiles(made.images, made.tiles)
                export_images(folder / DECODED, decoded, made.labels.repeat_interleave(made.tiles**2), inputs.spec)
        return {"ipc": method.ipc, "tiles": made.tiles, **peak, **made.facts}

    content = {
        "method": method.content(),
        "inputs": inputs.fingerprints(method.needs()),
        "seed": seed,
        **device_config.fingerprint,
    }
    outlook = partial(method.outlook, name.rpartition("/")[2], inputs.spec)
    return ImageFolderArtifact(store.produce("images", content, build, collective=True, outlook=outlook), inputs.spec)
