"""Learning rates against torch's own schedulers, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch.optim import Optimizer, lr_scheduler

from teddy.pool.schedule import FineTune, Recipe


def recipe(epochs: int, **changes: object) -> Recipe:
    settings = dict(lr=0.1, momentum=0.9, weight_decay=1e-4, batch_size=256, schedule="step", step_size=30, gamma=0.1)
    return Recipe(**{**settings, "epochs": epochs, "warmup_epochs": 0, **changes})  # type: ignore[arg-type]


def reference(lr: float, epochs: int, make: Callable[[Optimizer], lr_scheduler.LRScheduler]) -> list[float]:
    """The rate that torch's scheduler sets for each epoch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler, rates = make(optimizer), []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def compare(ours: Recipe, theirs: list[float]) -> None:
    for epoch, rate in enumerate(theirs):
        assert math.isclose(ours.lr * ours.factor(epoch), rate, rel_tol=1e-9, abs_tol=1e-12), epoch


def test_step_is_torchs() -> None:
    compare(recipe(71), reference(0.1, 71, lambda optimizer: lr_scheduler.StepLR(optimizer, 30)))
    changed = recipe(20, lr=0.4, step_size=3, gamma=0.5)
    compare(changed, reference(0.4, 20, lambda optimizer: lr_scheduler.StepLR(optimizer, 3, gamma=0.5)))


@pytest.mark.parametrize("epochs", [1, 2, 50])
def test_cosine_is_torchs(epochs: int) -> None:
    theirs = reference(0.2, epochs, lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, epochs))
    compare(recipe(epochs, lr=0.2, schedule="cosine"), theirs)


@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_warm_up_then_cosine_is_sre2ls() -> None:
    def make(optimizer: Optimizer) -> lr_scheduler.LRScheduler:
        rise = lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=5)
        fall = lr_scheduler.CosineAnnealingLR(optimizer, T_max=50 - 5)
        return lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[5])

    compare(recipe(50, lr=0.2, schedule="cosine", warmup_epochs=5), reference(0.2, 50, make))


def test_warm_up_before_steps_does_not_move_the_steps() -> None:
    ours = recipe(71, warmup_epochs=5)
    compare(
        recipe(71),
        [ours.lr * ours.factor(epoch) if epoch >= 5 else 0.1 * recipe(71).factor(epoch) for epoch in range(71)],
    )
    assert [ours.lr * ours.factor(epoch) for epoch in range(5)] == pytest.approx(
        [0.001, 0.0208, 0.0406, 0.0604, 0.0802]
    )


def test_constant_is_constant() -> None:
    assert {recipe(9, schedule="constant").factor(epoch) for epoch in range(9)} == {1.0}


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 12])
def test_fine_tuning_has_one_rate_for_each_third(steps: int) -> None:
    plan = FineTune(lr=0.1, lr_end=0.001, momentum=0.9, weight_decay=0.0, batch_size=32)
    for step in range(steps):
        third = 0 if 3 * step < steps else 1 if 3 * step < 2 * steps else 2
        assert 0.1 * plan.factor(step, steps) == pytest.approx([0.1, 0.01, 0.001][third])
    assert 0.1 * plan.factor(steps, steps) == pytest.approx(0.001)
