"""CutMix with a mixing ratio and a box of its own for each pair of images."""

from __future__ import annotations

import numpy as np
import torch

MIX_DRAWS = 3  # uniforms per image: the ratio, and the centre of the box


def beta_quantile(uniforms: np.ndarray, alpha: float, points: int = 4097) -> np.ndarray:
    """Numbers distributed as Beta(alpha, alpha), by inverting its distribution function.

    One uniform makes one number, so that a draw can be repeated by itself. The density ``s**(alpha-1) * (1-s)**(alpha-1)``
    is integrated into a table from 0 to one half, in the variable ``v = s**alpha`` where alpha < 1, which removes its pole
    at 0; the other half is the mirror image.
    """
    power = min(alpha, 1.0)
    v = np.linspace(0, 0.5**power, points)
    s = v ** (1 / power)
    # Times 4 per factor, which changes nothing but keeps a large alpha from underflowing at the peak.
    density = (4 * s * (1 - s)) ** (alpha - 1) if alpha >= 1 else (1 - s) ** (alpha - 1)
    area = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    lower = np.minimum(uniforms, 1 - uniforms)
    value = np.interp(lower, 0.5 * area / area[-1], v) ** (1 / power)
    return np.where(uniforms < 0.5, value, 1 - value)


def cutmix(
    images: torch.Tensor, partners: torch.Tensor, uniforms: np.ndarray, alpha: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Paste a box of the partner over the image, both (n, C, H, W), by uniforms (n, MIX_DRAWS) (Yun et al., ICCV 2019).

    With lambda ~ Beta(alpha, alpha) per pair, the box has ``sqrt(1 - lambda)`` of the image's sides, its centre is any
    pixel with equal chance, and what would be outside is cut off. Also returned is the exact share of pixels that remained the
    image's own, float32 (n,).
    """
    height, width = images.shape[-2:]
    side = np.sqrt(1 - beta_quantile(uniforms[:, 0], alpha))
    in_rows, rows = _span(side, uniforms[:, 1], height, images.device)
    in_columns, columns = _span(side, uniforms[:, 2], width, images.device)
    keep = 1 - rows * columns / (height * width)
    share = torch.from_numpy(keep.astype(np.float32)).to(images.device, non_blocking=True)
    return torch.where(in_rows[:, None, :, None] & in_columns[:, None, None, :], partners, images), share


def _span(side: np.ndarray, uniforms: np.ndarray, length: int, device: torch.device) -> tuple[torch.Tensor, np.ndarray]:
    """One axis of the boxes: which of its ``length`` pixels they cover, bool (n, length), and how many, (n,)."""
    centre = np.floor(uniforms * length).astype(np.int64)
    half = (length * side).astype(np.int64) // 2
    edges = (centre - half).clip(0, length), (centre + half).clip(0, length)
    first, after = (torch.from_numpy(edge).to(device, non_blocking=True)[:, None] for edge in edges)
    pixels = torch.arange(length, device=device)
    return (pixels >= first) & (pixels < after), edges[1] - edges[0]
