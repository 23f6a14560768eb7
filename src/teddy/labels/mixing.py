"""Mixing two images into one: CutMix and Mixup, with each pair's own share.

Every function takes the images, their partners and three uniforms per pair, and returns the mixed images and
the share that each image keeps of its own label.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

MIX_DRAWS = 3
"""How many uniforms a mix wants per image: the ratio, and where the box lies."""

Mix = Callable[[torch.Tensor, torch.Tensor, np.ndarray, float], tuple[torch.Tensor, torch.Tensor]]


def beta_quantile(uniforms: np.ndarray, alpha: float, points: int = 4097) -> np.ndarray:
    """Numbers distributed as Beta(alpha, alpha), by inverting its distribution function.

    One uniform makes one number, so a draw stays replayable by itself; rejection samplers need an unknown
    number of them. The density ``s**(alpha-1) * (1-s)**(alpha-1)`` is integrated into a table from 0 to one
    half, in the variable ``v = s**alpha`` where alpha < 1, which takes its pole at 0 away; the other half is
    the mirror image.

    Args:
        uniforms: in [0, 1), any shape.
        alpha: above 0; 1 gives the uniforms back.
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
    """Pastes a box of the partner over the image (Yun et al., ICCV 2019).

    With lambda ~ Beta(alpha, alpha) per pair, the box has ``sqrt(1 - lambda)`` of the image's sides, its
    centre is any pixel with equal chance, and what would lie outside is cut off.

    Args:
        images: (n, C, H, W); ``partners`` likewise.
        uniforms: (n, MIX_DRAWS).

    Returns:
        The mixed images, and the exact share of pixels that remained the image's own, float32 (n,).
    """
    height, width = images.shape[-2:]
    side = np.sqrt(1 - beta_quantile(uniforms[:, 0], alpha))
    top, bottom = _span(side, uniforms[:, 1], height)
    left, right = _span(side, uniforms[:, 2], width)
    keep = 1 - (bottom - top) * (right - left) / (height * width)
    in_rows = _between(top, bottom, height, images.device)[:, None, :, None]
    in_columns = _between(left, right, width, images.device)[:, None, None, :]
    return torch.where(in_rows & in_columns, partners, images), _share(keep, images.device)


def _span(side: np.ndarray, where: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """One axis of the boxes: their first pixels and the ones after their last, each (n,)."""
    centre = np.floor(where * length).astype(np.int64)
    half = (length * side).astype(np.int64) // 2
    return (centre - half).clip(0, length), (centre + half).clip(0, length)


def _between(start: np.ndarray, stop: np.ndarray, length: int, device: torch.device) -> torch.Tensor:
    """Which of ``length`` pixels lie in ``start .. stop - 1``: bool (n, length), made on ``device``."""
    pixels = torch.arange(length, device=device)
    first, after = (torch.from_numpy(edge).to(device, non_blocking=True)[:, None] for edge in (start, stop))
    return (pixels >= first) & (pixels < after)


def mixup(
    images: torch.Tensor, partners: torch.Tensor, uniforms: np.ndarray, alpha: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blends image and partner, ``lambda * image + (1 - lambda) * partner`` (Zhang et al., ICLR 2018)."""
    keep = _share(beta_quantile(uniforms[:, 0], alpha), images.device)
    weights = keep.view(-1, 1, 1, 1)
    return weights * images + (1 - weights) * partners, keep


def _share(keep: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(keep.astype(np.float32)).to(device, non_blocking=True)


MIXES: dict[str, Mix] = {"cutmix": cutmix, "mixup": mixup}
"""By the name in ``labels.mix``; "none" is the absence of one."""
