"""Cut ``fashion_mini``, the dataset inside the package, out of Fashion-MNIST.

Run ``python scripts/cut_fashion_mini.py FOLDER``, where FOLDER holds the four idx files of Fashion-MNIST (gzipped or not).
The seeded choice always gives the same files: 200 training and 50 test images of each class, from the training and the test
split, in their order there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from teddy.data.sources.idx import FashionMNIST

SEED = 2025
PER_CLASS = {"train": 200, "test": 50}
TARGET = Path(__file__).parents[1] / "src/teddy/data/embedded/fashion_mini.npz"


def choose(labels: np.ndarray, per_class: int, rng: np.random.Generator) -> np.ndarray:
    """Sorted indices of ``per_class`` images of each class."""
    chosen = [rng.choice(np.flatnonzero(labels == c), per_class, replace=False) for c in np.unique(labels)]
    return np.sort(np.concatenate(chosen))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    loaded = FashionMNIST(parser.parse_args().folder).load()
    rng = np.random.default_rng(SEED)
    arrays: dict[str, np.ndarray] = {}
    for split, count in PER_CLASS.items():
        images = getattr(loaded, split)
        index = choose(images.labels.numpy(), count, rng)
        arrays[f"{split}_images"] = images.images[index, 0].numpy()
        arrays[f"{split}_labels"] = images.labels[index].numpy().astype(np.uint8)
        arrays[f"{split}_index"] = index.astype(np.int32)
    np.savez_compressed(TARGET, **arrays)
    print(f"{TARGET}: {TARGET.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
