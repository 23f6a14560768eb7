"""Cuts ``fashion_mini``, the dataset that ships inside the package, out of Fashion-MNIST.

Run ``python scripts/cut_fashion_mini.py FOLDER``, where FOLDER holds the four idx files of Fashion-MNIST
(gzipped or not).
The choice is seeded, so the same files come out each time: 200 training and 50 test images of each class, the
training images from the training split and the test images from the test split, in the order in which they
stand there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from teddy.data.sources.idx import find_idx, read_idx

SEED = 2025
PER_CLASS = {"train": 200, "test": 50}
TARGET = Path(__file__).parents[1] / "src/teddy/data/embedded/fashion_mini.npz"


def choose(labels: np.ndarray, per_class: int, rng: np.random.Generator) -> np.ndarray:
    """Sorted indices of ``per_class`` images of each class."""
    chosen = [rng.choice(np.flatnonzero(labels == c), per_class, replace=False) for c in np.unique(labels)]
    return np.sort(np.concatenate(chosen))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    rng = np.random.default_rng(SEED)
    arrays: dict[str, np.ndarray] = {}
    for split, stem in (("train", "train"), ("test", "t10k")):
        images = read_idx(find_idx(folder, f"{stem}-images-idx3-ubyte"))
        labels = read_idx(find_idx(folder, f"{stem}-labels-idx1-ubyte"))
        index = choose(labels, PER_CLASS[split], rng)
        arrays[f"{split}_images"] = images[index]
        arrays[f"{split}_labels"] = labels[index]
        arrays[f"{split}_index"] = index.astype(np.int32)
    np.savez_compressed(TARGET, **arrays)
    print(f"{TARGET}: {TARGET.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
