"""Tensors as ``ddranking`` scores them (Li et al., arXiv 2505.13300): images by class, and a label (N, C) for each."""

from __future__ import annotations

from pathlib import Path

import torch

from teddy.config.errors import UserError
from teddy.labels.sources import FixedLabels, LabelSource, OnlineLabels
from teddy.labels.store import StoredLabels
from teddy.labels.views import ViewMaker
from teddy.sets.folder import SetFolder

CIFAR = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Its name for a dataset, and the mean and standard deviation with which it normalises test images.
NORMALISATION = {
    "cifar10": ("CIFAR10", CIFAR),
    "cifar100": ("CIFAR100", CIFAR),
    "tiny_imagenet": ("TinyImageNet", IMAGENET),
    "imagenet": ("ImageNet1K", IMAGENET),
}


def export(opened: SetFolder, out: Path, source: LabelSource, device: torch.device | str) -> str:
    """Write ``images.pt``, float32 (N, 3, H, W) in ddranking's normalisation, ``labels.pt`` and perhaps ``lr.pt``.

    Labels are logits (N, C), which its losses soften: those of the teachers, on ``device``, for the images as they are; without
    teachers, the mean of the stored ones over the views, each weighted by the image's share in its view. Of a set with hard
    labels they are class indices (N,). UserError if ddranking does not know the dataset.
    """
    facts, images = opened.description, opened.images
    if (name := facts.dataset.name) not in NORMALISATION:
        raise UserError(f"ddranking knows no dataset {name}, only {', '.join(NORMALISATION)}; choose another --to.")
    title, (mean, std) = NORMALISATION[name]
    pixels = (images.images.float() / 255 - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    labels = images.labels
    if isinstance(source, OnlineLabels | FixedLabels):
        parts = images.images.to(device).split(facts.labels.batch_size)
        labels = torch.cat([source.labeller(opened.spec.normalise(part)).cpu() for part in parts])
    elif isinstance(source, StoredLabels):
        labels = _mean_label(ViewMaker(images.images, opened.spec, facts.labels.view, facts.labels.seed), source)
    torch.save(pixels, out / "images.pt")
    torch.save(labels, out / "labels.pt")
    if facts.learned_lr is not None:
        torch.save(torch.tensor(facts.learned_lr), out / "lr.pt")
    ipc, kind = facts.ipc * facts.tiles**2, "Hard" if labels.dim() == 1 else "Soft"
    return f"LabelRobustScore{kind}(dataset={title!r}, ipc={ipc}).compute_metrics(images, {kind.lower()}_labels=labels)"


def _mean_label(views: ViewMaker, source: StoredLabels) -> torch.Tensor:
    """The mean logits of each image, float32 (N, C)."""
    total, weight = torch.zeros(len(views), source.compression.num_classes), torch.zeros(len(views), 1)
    for epoch in range(source.epochs):
        keep = views(epoch, torch.arange(len(views))).keep[:, None]
        total += keep * source.logits(epoch, views)
        weight += keep
    return total / weight
