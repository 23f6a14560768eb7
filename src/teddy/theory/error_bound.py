"""The chain of inequalities of Prop. 3 (Eq. 22), for a linear model and one step from shared weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ErrorBound:
    """The lines of Eq. 22 for f(X; W) = XW; norms are those of Frobenius, and C = ‖f(X; W_T) - Y‖.

    Attributes:
        loss: ‖f(X; W_S) - Y‖, which is to be bounded.
        triangle: ‖f(X; W_S) - f(X; W_T)‖ + C, the second line.
        lipschitz: β ‖W_S - W_T‖ + C, the third line; it equals ``lr`` β ‖g_S - g_T‖ + C, the fourth but for the printed
            equation's ``lr``.
        printed: ``lr`` β g_S · g_T + C, the last line, which the paper sets equal to the fourth.
    """

    loss: float
    triangle: float
    lipschitz: float
    printed: float

    @classmethod
    def of(
        cls,
        inputs: torch.Tensor,
        targets: torch.Tensor,
        synthetic: tuple[torch.Tensor, torch.Tensor],
        weight: torch.Tensor,
        lr: float,
    ) -> ErrorBound:
        """Take one step of gradient descent on ½ ‖XW - Y‖² / N from ``weight`` on either set.

        Args:
            inputs: real, (N, D); ``targets`` (N, classes).
            synthetic: inputs and targets of S.
        """
        real_slope = inputs.T @ (inputs @ weight - targets) / len(inputs)
        own_slope = synthetic[0].T @ (synthetic[0] @ weight - synthetic[1]) / len(synthetic[0])
        ours, theirs = weight - lr * own_slope, weight - lr * real_slope
        beta = float(torch.linalg.matrix_norm(inputs, 2))
        rest = float((inputs @ theirs - targets).norm())
        return cls(
            loss=float((inputs @ ours - targets).norm()),
            triangle=float((inputs @ (ours - theirs)).norm()) + rest,
            lipschitz=beta * float((ours - theirs).norm()) + rest,
            printed=lr * beta * float((own_slope * real_slope).sum()) + rest,
        )
