"""The evaluation split: the real test set, or held-out training images while settings are being chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from teddy.data.datamodule import stratified_split
from teddy.data.dataset import RealDataset
from teddy.data.images import ImageSet, subset


@dataclass(frozen=True)
class EvalSplit:
    """Images that the student has never seen."""

    name: str  # behind the protocol's in results, so that held-out accuracy is not taken for test accuracy
    identity: dict[str, Any]  # what the accuracy depends on, for the student's fingerprint
    images: Callable[[], ImageSet]  # opened when they are needed
    curve: Callable[[], ImageSet] | None = None  # held-out training images, to follow students on while they train


def open_split(split: str, dataset: RealDataset, holdout: float, seed: int) -> EvalSplit:
    """Open the split that ``evaluation.split`` names: "test", or "heldout" for choices.

    Choosing a learning rate by the test set would make the reported accuracy a best of many (invariant 7).
    """
    if split == "test":
        return EvalSplit("", {"test": dataset.fingerprint}, lambda: dataset.test)
    identity = {"heldout": dataset.fingerprint, "holdout": holdout, "holdout_seed": seed}

    def heldout() -> ImageSet:
        return subset(dataset.train, stratified_split(dataset.train.labels, holdout, seed)[1])

    return EvalSplit("heldout", identity, heldout)
