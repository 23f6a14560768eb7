"""Post-generation (Sec. 3.3, D.1): weak teachers pruned from one well-trained base model, and fine-tuned very briefly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from teddy.config.errors import BadInput
from teddy.pool.recut import FineTune, Recut

if TYPE_CHECKING:
    from teddy.pool.members import ModelPool
    from teddy.pool.trajectory import BaseTraining


class PostPool:
    """Copies of the base model, each pruned by its own seed and fine-tuned for its own budget.

    The budgets are ``epochs * (k / (size - 1)) ** 2``, so that they crowd at the start, where accuracy recovers fast: the pool
    simulates the accuracy curve of a trajectory.

    Args:
        size: number of members; a single one is not fine-tuned.
        base: where the base model comes from: ``trained``, ``pretrained`` or the path of a weight file.
        macs: prune until at most so many multiply-accumulates are left; up to 1: a share of the base model's; None: no target.
        parameters: likewise, at most so many parameters.
        step: share of each layer's channels that a step of pruning takes.
        epochs: longest budget of fine-tuning.
        lr: learning rate in the first third of a budget.
        lr_end: learning rate in the last third; the geometric mean of both lies between.
        batch_size: of fine-tuning.
        recalibrate: training images over which BatchNorm's statistics are measured after pruning; 0 leaves those of the base
            model.

    Raises:
        BadInput: a value makes no sense.
    """

    def __init__(
        self,
        size: int,
        base: str,
        macs: float | None,
        parameters: float | None,
        step: float,
        epochs: float,
        lr: float,
        lr_end: float,
        momentum: float,
        weight_decay: float,
        batch_size: int,
        recalibrate: int,
    ) -> None:
        if macs is None and parameters is None:
            raise BadInput(
                "pool.strategy.macs and pool.strategy.parameters are both null; give a target, such as 0.66."
            )
        self.size = int(_number("size", size, 1, whole=True))
        self.base = base
        plan = FineTune(
            lr=_number("lr", lr, 0, above=True),
            lr_end=_number("lr_end", lr_end, 0, lr, above=True),
            momentum=_number("momentum", momentum, 0, 1),
            weight_decay=_number("weight_decay", weight_decay, 0),
            batch_size=int(_number("batch_size", batch_size, 2, whole=True)),
        )
        self.recut = Recut(
            # As floats, so that 1.2e9 and 1200000000 name the same work.
            macs=None if macs is None else _number("macs", macs, 0, above=True),
            parameters=None if parameters is None else _number("parameters", parameters, 0, above=True),
            step=_number("step", step, 0, 0.5, above=True),
            recalibrate=int(_number("recalibrate", recalibrate, 0, whole=True)),
            plan=plan,
        )
        self.epochs = _number("epochs", epochs, 0)

    def check(self, base: BaseTraining) -> None:
        """Raises BadInput if the base model cannot be had, or the targets cannot be reached by pruning it."""
        from teddy.pool.base import check_base
        from teddy.pool.copies import check_targets

        check_base(base, self.base)
        check_targets(base, self.recut)

    def make(self, base: BaseTraining, label: str) -> ModelPool:
        """Makes the base model and each member unless they are in the store.

        Raises:
            BadInput: the targets cannot be reached, or the base model cannot be had.
            StageFailed: training diverged or the disk is full.
        """
        from teddy.pool.copies import Copies

        budgets = [self.budget(index) for index in range(self.size)]
        return Copies(base, label, self.base, self.recut, budgets).pool()

    def budget(self, index: int) -> float:
        """Epochs of fine-tuning of member ``index``."""
        return round(self.epochs * (index / (self.size - 1)) ** 2, 4) if self.size > 1 else 0.0


def _number(
    key: str, value: Any, low: float, high: float = float("inf"), *, above: bool = False, whole: bool = False
) -> float:
    plain = isinstance(value, int) if whole else isinstance(value, int | float)
    fits = plain and not isinstance(value, bool) and low <= value <= high and not (above and value == low)
    if not fits or value == float("inf"):
        kind = "a whole number" if whole else "a number"
        most = "" if high == float("inf") else f" and at most {high:g}"
        least = f"above {low:g}" if above else f"from {low:g} on"
        raise BadInput(f"pool.strategy.{key}={value} must be {kind} {least}{most}.")
    return value if whole else float(value)
