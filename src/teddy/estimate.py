"""A rough time for a run, before it begins: measured training steps of the network, times the steps that there will be."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional as F

from teddy.config.checks import seeds
from teddy.config.schema import TeddyConfig
from teddy.data.dataset import RealDataset
from teddy.factory import protocol_list
from teddy.models.networks import build_network
from teddy.runtime.device import DeviceConfig

BESIDE = 20.0
"""Seconds of a run for what is not counted: imports, reports, the start of Trainers."""
REPEATS = 3


def estimate(
    config: TeddyConfig, methods: Mapping[str, Any], dataset: RealDataset, device_config: DeviceConfig
) -> float:
    """Seconds that a run takes if nothing of it is in the store.

    Students count as the pool's network. Of a method only ``iterations`` and ``augmentations``, if it has them, are known here.
    """
    loaded, images = dataset.loaded, len(dataset.train)
    classes, training = len(loaded.class_ids), config.pool.training
    network = build_network(config.model.name, classes, loaded.channels, loaded.size).to(device_config.device)

    def steps(count: int, batch: int) -> float:
        """Seconds of so many passes over ``count`` images in batches, by one measured step."""
        size = min(batch, count)
        return math.ceil(count / size) * _step(
            network, (size, loaded.channels, loaded.size, loaded.size), device_config
        )

    members = config.pool.size or 1
    total = BESIDE + training.epochs * steps(images, training.batch_size)
    for method in methods.values():
        distilled = method.ipc * classes
        block = steps(distilled, config.synthesis.batch_size)
        total += getattr(method, "iterations", 0) * block
        total += getattr(method, "augmentations", 0) * members * steps(images, max(2, images // classes)) / 3  # forward
        for protocol in protocol_list(config).values():
            epochs = protocol.epochs * len(config.evaluation.students) * len(seeds(config))
            total += epochs * steps(distilled, protocol.batch_size)
    return total


def _step(network: torch.nn.Module, shape: tuple[int, ...], device_config: DeviceConfig) -> float:
    """Seconds of a forward and backward pass, also to the pixels; the median of a few after one that warms up."""
    images = torch.zeros(shape, device=device_config.device, requires_grad=True)
    labels = torch.zeros(shape[0], dtype=torch.int64, device=device_config.device)
    taken = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        with device_config.autocast():
            loss = F.cross_entropy(network(images).float(), labels)
        loss.backward()
        float(images.grad.flatten()[0])  # type: ignore[union-attr]  # waits for the device
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])
