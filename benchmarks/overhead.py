"""What Lightning, logging and the progress display add to a step of synthesis, beside the passes of a real one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from benchmarks.setting import Setting, made_up_pool, made_up_spec
from benchmarks.synthesis import floor, timed
from benchmarks.timing import Row, Turns, compare
from teddy.data.spec import DatasetSpec
from teddy.pool.members import ModelPool
from teddy.synthesis.module import LOG_EVERY
from teddy.synthesis.optimized import OptimizedMethod, State

OF_A_STEP = 0.02
MANY = 10 * LOG_EVERY
"""Empty steps between two runs of the reference."""
CASES: tuple[tuple[str, DatasetSpec, int, int], ...] = (
    ("convnet3_w32", made_up_spec(28, channels=1), 100, 5),  # the quick start
    ("resnet18_cifar", made_up_spec(32), 50, 3),
)


@dataclass(frozen=True, kw_only=True)
class Empty(OptimizedMethod):
    """One pixel per class, a step without work, and as many terms as Eq. 7 has."""

    def optimizer(self, state: State) -> torch.optim.Optimizer:
        return torch.optim.Adam([state.pixels], fused=True)

    def step(self, state: State, iteration: int) -> dict[str, torch.Tensor]:
        loss = state.pixels.sum()
        loss.backward()
        return dict.fromkeys(("loss", "cross_entropy", "bn_statistics"), loss.detach())


def rows(setting: Setting) -> Iterator[Row]:
    for network, spec, batch, teachers in CASES:
        passes = floor(made_up_pool(setting.folder, network, spec, teachers), batch, setting.device_config)
        turns = Turns([passes], setting.device, setting.rounds, per_round=setting.steps(1), ours_per_round=MANY)
        method = Empty(ipc=1, initial="noise", iterations=turns.length)
        folder = setting.scratch(f"overhead-{network}")
        nothing = ModelPool((), made_up_spec(1, channels=1), "none")
        ours, others = timed(method, nothing, turns, setting.device_config, folder)
        what = (
            f"Lightning and logging in a step of synthesis, {network}, {spec.size} px, batch {batch}, n={teachers} (s)"
        )
        yield compare(what, ours, others[0], OF_A_STEP)
