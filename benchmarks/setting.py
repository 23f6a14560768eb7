"""What all benchmarks share: device, number of repetitions, and made-up teachers and data."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from teddy.data.images import TensorImages
from teddy.data.spec import DatasetSpec
from teddy.models.networks import build_network
from teddy.pool.members import Member, ModelPool
from teddy.runtime.device import DeviceConfig
from teddy.runtime.resume import save_tensors

CLASSES = 10


@dataclass(frozen=True)
class Setting:
    """How the benchmarks are run.

    Attributes:
        folder: for files; empty at the start and removed at the end.
        quick: the fewest repetitions, and nothing that takes minutes.
    """

    device_config: DeviceConfig
    folder: Path
    quick: bool = False

    @property
    def rounds(self) -> int:
        """Measurements of each thing."""
        return 3 if self.quick else 7

    @property
    def device(self) -> torch.device:
        return self.device_config.device

    def steps(self, on_cpu: int) -> int:
        """Steps per round; on a GPU enough to keep its queue full, as in a real run."""
        return max(10, on_cpu) if self.device_config.accelerator == "cuda" else on_cpu

    def scratch(self, name: str) -> Path:
        """An empty folder of this name."""
        path = self.folder / name
        path.mkdir(parents=True)
        return path


def made_up_spec(size: int, channels: int = 3) -> DatasetSpec:
    names = tuple(str(label) for label in range(CLASSES))
    return DatasetSpec(f"made_up{size}", CLASSES, channels, size, (0.5,) * channels, (0.25,) * channels, names, names)


def made_up_images(spec: DatasetSpec, count: int) -> TensorImages:
    """Random 8-bit images, the same number of each class."""
    shape = (count, spec.channels, spec.size, spec.size)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(count))
    return TensorImages(pixels, torch.arange(count) * spec.num_classes // count)


def made_up_pool(folder: Path, network: str, spec: DatasetSpec, size: int) -> ModelPool:
    """Teachers with random weights and made-up running statistics, in files, which are reused."""
    members = []
    for index in range(size):
        file = folder / f"{network}-{spec.name}-{spec.channels}-{index}.safetensors"
        if not file.is_file():
            teacher = build_network(network, spec.num_classes, spec.channels, spec.size, seed=index)
            make_up_statistics(teacher, seed=index)
            save_tensors(file, teacher.state_dict(), {})
        members.append(Member(network, file, index + 1, f"made up/{file.stem}", 0.0))
    return ModelPool(tuple(members), spec, "made up")


def make_up_statistics(network: nn.Module, seed: int) -> None:
    """Running statistics that are neither 0 nor 1."""
    draws = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            channels = layer.num_features
            mean, var = 0.1 * torch.randn(channels, generator=draws), 0.5 + torch.rand(channels, generator=draws)
            layer.load_state_dict({**layer.state_dict(), "running_mean": mean, "running_var": var})


def hardware(device_config: DeviceConfig) -> str:
    """Name of the device, and the precision."""
    if device_config.accelerator == "cuda":
        return f"{torch.cuda.get_device_name()}, {device_config.precision}"
    return f"{_processor()}, {torch.get_num_threads()} threads, {device_config.precision}"


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
