"""Saved epochs of a trajectory, and those of a pool's members (Table 6, "stage of teachers").

Epochs are counted from 1: epoch k is the network after k full passes over the training data.
"""

from __future__ import annotations

from teddy.config.errors import UserError


def saved_epochs(epochs: int, save_every: int) -> list[int]:
    """Epochs after which training keeps the weights: 1, 1 + save_every, … and always the last."""
    return sorted({*range(1, epochs + 1, save_every), epochs})


def member_epochs(first: int, last: int | None, every: int, size: int | None, saved: list[int]) -> list[int]:
    """Epochs of a pool's members, early to late; UserError if one was not saved, or fewer were than ``size`` asks for.

    They run from ``first`` to ``last`` in steps of ``every`` and include ``last``, as the eight teachers of the paper's "16-50,
    with step 5" do. With ``size`` they are that many, evenly spread over the saved ones between the same ends (Fig. 3c); with
    ``size`` and no ``last``, a window of that many from ``first`` on (Fig. 2c).
    """
    if last is None:
        if size is None:
            raise UserError("pool.last and pool.size are both null; give the last epoch or the number of members.")
        wanted = list(range(first, first + every * size, every))
    elif size is None:
        wanted = sorted({*range(first, last + 1, every), last})
    else:
        between = [epoch for epoch in saved if first <= epoch <= last]
        if size > len(between):
            raise UserError(
                f"pool.size={size} asks for more members than the {len(between)} saved epochs from {first} to {last}; "
                "lower pool.size or pool.training.save_every."
            )
        steps = max(size - 1, 1)
        wanted = [between[round(i * (len(between) - 1) / steps)] for i in range(size)]
    missing = [epoch for epoch in wanted if epoch not in saved]
    if missing:
        raise UserError(
            f"pool epochs {', '.join(map(str, missing))} are not among the saved ones ({_brief(saved)}); change pool.first, "
            "pool.last or pool.every, or lower pool.training.save_every."
        )
    return wanted


def _brief(epochs: list[int]) -> str:
    return ", ".join(map(str, epochs if len(epochs) <= 8 else [*epochs[:3], "…", epochs[-1]]))
