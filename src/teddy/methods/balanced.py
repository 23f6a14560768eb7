"""Global BatchNorm statistics in which all classes count the same, for teachers of unbalanced data (Sec. C.1).

With mean m_c and variance v_c over class c, the mean is that of the m_c, and the variance ``mean_c (v_c + m_c^2) - mean^2``.
"""

from __future__ import annotations

import torch

from teddy.methods.class_statistics import RealClasses, teachers
from teddy.runtime.device import DeviceConfig
from teddy.synthesis.method import Inputs

Targets = list[tuple[torch.Tensor, torch.Tensor]]  # mean and variance (channels,) of each BatchNorm layer's input


def balanced_statistics(inputs: Inputs, device_config: DeviceConfig, count: int) -> list[Targets]:
    """Measure every teacher of the pool on at most ``count`` real images of each class, unless that is in the store."""
    networks = teachers(inputs, device_config, depth=1, batchnorm=True)
    found: list[Targets] = []
    for bank in RealClasses(inputs, device_config, "none", count).banks(networks, augmentations=1):
        found.append([])
        for layer in range(sum(name.startswith("mean") for name in bank)):
            means, variances = bank[f"mean{layer}"][0], bank[f"var{layer}"][0]  # (classes, channels)
            mean = means.mean(0)
            found[-1].append((mean, variances.mean(0) + (means - mean).square().mean(0)))
    return found
