"""ZCA whitening of images, which trajectory matching was published with: uncorrelated pixels of one variance.

With the covariance ``U diag(s) U^T`` of the flattened images, x becomes ``U diag(1 / sqrt(s + eps)) U^T (x - mean)``; the inverse
gives pictures back.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from teddy.config.errors import UserError

LARGEST = 3 * 64 * 64  # values of an image beyond which the matrices, of its square, are refused: 600 MB each


@dataclass(frozen=True, eq=False)
class Whitening:
    """A whitening by the mean (P,) of the images and a symmetric matrix (P, P), where P = C * H * W, and its inverse."""

    mean: torch.Tensor
    matrix: torch.Tensor
    inverse: torch.Tensor

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return self._multiply(images.flatten(1) - self.mean.to(images.device), self.matrix).view(images.shape)

    def undo(self, images: torch.Tensor) -> torch.Tensor:
        return (self._multiply(images.flatten(1), self.inverse) + self.mean.to(images.device)).view(images.shape)

    @staticmethod
    def _multiply(rows: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        with torch.autocast(rows.device.type, enabled=False):
            return rows @ matrix.to(rows.device)


def check_whitening(channels: int, size: int) -> None:
    """Raise UserError if images are too large to be whitened."""
    if channels * size**2 > LARGEST:
        raise UserError(
            f"dataset.zca needs a matrix of {channels * size**2:,} x {channels * size**2:,} numbers for images of {size} pixels; "
            "set it to null, or dataset.size to at most 64."
        )


def zca(images: torch.Tensor, eps: float) -> Whitening:
    """The whitening of normalised images (N, C, H, W), with ``eps`` added to the variances; computed in float64."""
    rows = images.flatten(1)
    mean = rows.double().mean(0)
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for part in rows.split(1000):
        centred = part.double() - mean
        covariance.addmm_(centred.T, centred)
    variances, directions = torch.linalg.eigh(covariance / len(rows))
    scales = (variances.clamp(min=0) + eps).sqrt()
    matrices = (directions / scales) @ directions.T, (directions * scales) @ directions.T
    return Whitening(mean.float(), *(matrix.float() for matrix in matrices))
