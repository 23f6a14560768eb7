"""A synthetic set as a torch Dataset: the views that the run's students saw, with their targets, for a loop of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.utils.data import Dataset

from teddy.config.errors import UserError, reason
from teddy.labels.compression import compression
from teddy.labels.ensemble import PoolLabeller
from teddy.labels.sources import FixedLabels, LabelledViews, LabelSource, OnlineLabels
from teddy.labels.stage import Labels, hard_labels
from teddy.labels.store import LABELS, StoredLabels
from teddy.labels.views import ViewMaker
from teddy.models.networks import build_network
from teddy.pool.members import ModelPool
from teddy.runtime.device import DeviceConfig
from teddy.runtime.memory import machine_memory
from teddy.sets.folder import SetFolder


class DistilledSet(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """The distilled images; item ``i`` is the view of image i in the current epoch, and its target.

    A view (C, H, W) is cropped, flipped, mixed and normalised, float32; a target (classes,) is the teachers' logits, or
    probabilities. Both depend on the epoch and the index alone, so that any loader may ask in any order. They lie on ``device``;
    loader processes need the CPU.
    """

    def __init__(self, folder: SetFolder, device: str | torch.device = "cpu") -> None:
        if folder.description.dataset.boxes is not None:
            raise UserError(f"the images of {folder.path} have boxes; read images/annotations.json as COCO.")
        self.folder, self.description, self.device = folder, folder.description, torch.device(device)
        self.images, self.labels = folder.images.images, folder.images.labels  # uint8 (N, C, H, W); class indices (N,)
        facts, labels = self.description.dataset, self.description.labels
        self.class_names, self.mean, self.std = list(facts.class_names), list(facts.mean), list(facts.std)
        self.ipc = self.description.ipc
        self.temperature = 1.0 if labels.kind == "hard" else labels.temperature
        # Shared, so that loader processes which outlive an epoch see the next one.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.__getitems__([index % len(self)])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Items of a batch, made together; a DataLoader calls this."""
        return list(zip(*self._views(int(self._epoch), torch.as_tensor(indices)), strict=True))

    def set_epoch(self, epoch: int) -> None:
        """Choose the views that follow; every epoch has its own, and stored labels begin again after their last one."""
        self._epoch.fill_(epoch)

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The loss of a network's logits (B, classes) for a batch: KL divergence at the temperature, or cross-entropy."""
        return self._views.source.loss(logits, targets)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise uint8 images (N, C, H, W), such as test images, as the views are."""
        return self.folder.spec.normalise(images)

    def labels_for(self, device_config: DeviceConfig) -> Labels:
        """The labels as the evaluation stage takes them."""
        facts = self.description.labels
        if facts.kind == "hard":
            return hard_labels(self.folder)
        content = {name: one.sha256 for name, one in self.description.files.items() if not name.startswith("images/")}
        return Labels(facts.kind, {"set": content, "facts": facts}, lambda: self._soft_labels(device_config))

    @cached_property
    def _views(self) -> LabelledViews:
        facts = self.description.labels
        views = ViewMaker(self.images.to(self.device), self.folder.spec, facts.view, facts.seed)
        return LabelledViews(views, self.labels_for(DeviceConfig(self.device.type, facts.precision)).source())

    def _soft_labels(self, device_config: DeviceConfig) -> LabelSource:
        facts, spec = self.description.labels, self.folder.spec
        if facts.kind == "stored":
            shape = facts.epochs or 0, len(self)
            form = compression(spec.num_classes, facts.top_k, facts.temperature)
            return StoredLabels(self.folder.path / LABELS, shape, form, facts.temperature)
        source = OnlineLabels if facts.kind == "online" else FixedLabels
        return source(_Teachers(self.folder, device_config), facts.temperature, facts.batch_size)


@dataclass
class _Teachers:
    """The labeller of a set whose teachers travel with it; they are loaded when they are first needed."""

    folder: SetFolder
    device_config: DeviceConfig

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return self._labeller(images)

    @cached_property
    def _labeller(self) -> PoolLabeller:
        path, spec = self.folder.path, self.folder.spec
        for one in self.folder.teachers:
            with torch.device("meta"):  # the name may ask for any width
                shape = build_network(one.network, spec.num_classes, spec.channels, spec.size)
            size = 4 * sum(parameter.numel() for parameter in shape.parameters())
            if size > machine_memory():
                raise UserError(f"the teacher {one.network} of {path} takes {size / 1e9:,.0f} GB; use another set.")
        pool = ModelPool(self.folder.teachers, spec, "set")
        try:
            return PoolLabeller(pool.load_teachers(self.device_config), self.device_config.autocast)
        except Exception as error:  # a set from elsewhere may hold anything, and torch has errors of any kind
            raise UserError(f"the teachers of {path} cannot be loaded ({reason(error)}); use another set.") from error
