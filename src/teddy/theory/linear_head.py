"""Gradient matching of a linear head under squared loss: what Prop. 2 makes of it, and what it drops (Eq. 14-18).

Features F (N, D) are the inputs of the head W (D, classes), Y (N, classes) the one-hot labels, and the loss is ½ ‖FW - Y‖² / N.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch


@dataclass(frozen=True)
class Moments:
    """The two statistics that the gradient of a linear head consists of."""

    second: torch.Tensor  # Fᵀ F / N, (D, D), which Eq. 16 calls the covariance: for features of mean zero
    crossed: torch.Tensor  # Fᵀ Y / N, (D, classes): the class means, each times the share of its class (Eq. 17)
    mean: torch.Tensor  # of the features, (D,)

    @classmethod
    def of(cls, features: torch.Tensor, targets: torch.Tensor) -> Moments:
        return cls(features.T @ features / len(features), features.T @ targets / len(features), features.mean(0))

    def gradient(self, weight: torch.Tensor) -> torch.Tensor:
        """Eq. 14 at the head ``weight`` (D, classes)."""
        return self.second @ weight - self.crossed

    @cached_property
    def covariance(self) -> torch.Tensor:
        return self.second - torch.outer(self.mean, self.mean)


@dataclass(frozen=True)
class Gap:
    """The distance of a synthetic set's gradient from the real one (Eq. 15), in parts; norms are those of Frobenius."""

    real: Moments
    synthetic: Moments

    @property
    def second(self) -> torch.Tensor:
        """The difference in Eq. 15's first term, (D, D)."""
        return self.real.second - self.synthetic.second

    @property
    def crossed(self) -> torch.Tensor:
        """The difference in Eq. 15's second term, (D, classes)."""
        return self.real.crossed - self.synthetic.crossed

    def distance(self, weight: torch.Tensor) -> float:
        """The left side of Eq. 15: the squared distance of the two gradients, divided by ‖W‖²."""
        return _energy(self.real.gradient(weight) - self.synthetic.gradient(weight)) / _energy(weight)

    def bound(self, weight: torch.Tensor) -> float:
        """The right side of Eq. 15 as printed. It can lie below the left side, by a factor of 2 at most."""
        return _energy(self.second) + _energy(self.crossed) / _energy(weight)

    def off_diagonal(self, centred: bool = False) -> float:
        """Share of the first term's ‖·‖², or of the covariances', off the diagonal, which variances (Eq. 16) do not see."""
        difference = self.real.covariance - self.synthetic.covariance if centred else self.second
        return 1 - _energy(difference.diagonal()) / _energy(difference)

    def between_classes(self) -> float:
        """Share of the second term's ‖·‖² that matching the global mean (Eq. 18) does not see.

        The columns add up to the difference of the global means. The least that they can be for a given sum is its equal parts,
        and what remains is how class means differ from each other.
        """
        return 1 - _energy(self.crossed.sum(1)) / (self.crossed.shape[1] * _energy(self.crossed))


def _energy(values: torch.Tensor) -> float:
    return float(values.square().sum())
