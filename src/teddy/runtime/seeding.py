"""Random numbers that depend on their purpose, never on what was drawn before.

Every draw is named by keys such as ``(seed, "views", epoch)`` and, for per-image draws, by the image's own index. So a killed
run, another batch size, another number of workers or devices sees the same numbers (invariants 2 and 3).
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import torch

Key = int | str

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def stable_seed(*keys: Key) -> int:
    """Derive a 63-bit seed from integers and strings, the same on every machine and Python version."""
    text = "\x1f".join(f"{type(key).__name__}:{key}" for key in keys)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(*keys: Key) -> torch.Generator:
    """Make a fresh CPU generator for the draw named by ``keys``."""
    return torch.Generator().manual_seed(stable_seed(*keys))


def seed_torch(*keys: Key) -> None:
    """Seed torch's global generators, for layers such as dropout that take no generator.

    Only those of initialised devices: at each call, ``torch.manual_seed`` keeps a stack trace for every other device.
    """
    seed = stable_seed(*keys)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


def splitmix64(state: np.ndarray) -> np.ndarray:
    """Apply the output function of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014) to each uint64 state of an array."""
    z = state + _GOLDEN  # arrays wrap around in silence
    z ^= z >> np.uint64(30)
    z *= _MIX_1
    z ^= z >> np.uint64(27)
    z *= _MIX_2
    z ^= z >> np.uint64(31)
    return z


def uniform(*keys: Key, samples: np.ndarray | None = None, draws: int = 1) -> np.ndarray:
    """Draw counter-based uniforms in [0, 1).

    Row ``i``, of ``draws`` numbers, depends on ``keys`` and the sample id ``samples[i]`` only (from 0; ``None`` means one row
    with id 0), so it is the same in every batch that holds the sample.
    """
    ids = np.zeros(1, np.uint64) if samples is None else np.asarray(samples, dtype=np.uint64)
    rows = splitmix64(ids ^ _base(*keys))
    states = rows[:, None] + _GOLDEN * np.arange(draws, dtype=np.uint64)[None, :]
    return (splitmix64(states) >> np.uint64(11)) * (1.0 / (1 << 53))


@lru_cache(maxsize=256, typed=True)
def _base(*keys: Key) -> np.ndarray:
    """Return the state that all samples of a draw have in common (1,), cached for the batches of an epoch."""
    return splitmix64(np.asarray([stable_seed(*keys)], np.uint64))


def permutation(n: int, *keys: Key) -> np.ndarray:
    """Draw the permutation of ``range(n)`` named by ``keys``: the order of ``n`` counter-based uniforms."""
    return np.argsort(uniform(*keys, samples=np.arange(n))[:, 0], kind="stable")
