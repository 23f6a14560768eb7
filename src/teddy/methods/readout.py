"""The loss of real images under a linear readout that is trained on synthetic ones: Eq. 2 where only the last layer learns.

The proof of Prop. 2 assumes this, and takes the first steps of the training. With the squared error and weight decay its end is
ridge regression, in closed form (FRePo, Zhou et al., NeurIPS 2022).
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

RIDGE = 0.01  # weight decay, over the mean squared norm of the synthetic features


def readout(features: torch.Tensor, labels: torch.Tensor, real: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Predictions (R, classes) for real features (R, D) by the readout of synthetic ones (N, D) with labels (N,).

    The targets are 1 for the class and 0 for others, less their mean.
    """
    with torch.autocast(features.device.type, enabled=False):
        own, real = features.float(), real.float()
        gram = own @ own.T
        ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(own), device=own.device)
        return real @ own.T @ torch.linalg.solve(gram + ridge, _targets(labels, num_classes))


def readout_error(
    features: torch.Tensor, labels: torch.Tensor, real: torch.Tensor, real_labels: torch.Tensor, num_classes: int
) -> torch.Tensor:
    """Squared error of the readout's predictions for the real images, summed over classes; the mean over images."""
    wrong = readout(features, labels, real, num_classes) - _targets(real_labels, num_classes)
    return wrong.square().sum(1).mean()


def _targets(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    return F.one_hot(labels, num_classes).float() - 1 / num_classes
