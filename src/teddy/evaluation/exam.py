"""What a trained student is measured on: the real test set, or held-out training images while settings are being chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from teddy.data.datamodule import stratified_split
from teddy.data.dataset import RealDataset
from teddy.data.images import ImageSet, subset


@dataclass(frozen=True)
class Exam:
    """Images that the student has never seen.

    Attributes:
        name: added to the protocol's name in the results, so that no held-out accuracy is taken for a test accuracy.
        identity: what the accuracy depends on, for the student's fingerprint.
        images: opens the images when they are needed.
    """

    name: str
    identity: dict[str, Any]
    images: Callable[[], ImageSet]


def heldout_images(dataset: RealDataset, holdout: float, seed: int) -> ImageSet:
    """The training images that no teacher was trained on."""
    _, held = stratified_split(dataset.train.labels, holdout, seed)
    return subset(dataset.train, held)


def open_exam(split: str, dataset: RealDataset, holdout: float, seed: int) -> Exam:
    """The exam that ``evaluation.split`` names.

    Choosing a learning rate by the test set would make the reported accuracy a best of many (invariant 7), so choosing is
    done on the images that teacher training holds out.
    """
    return SPLITS[split](dataset, holdout, seed)


def _test(dataset: RealDataset, holdout: float, seed: int) -> Exam:
    return Exam("", {"test": dataset.fingerprint}, lambda: dataset.test)


def _heldout(dataset: RealDataset, holdout: float, seed: int) -> Exam:
    identity = {"heldout": dataset.fingerprint, "holdout": holdout, "holdout_seed": seed}
    return Exam("heldout", identity, lambda: heldout_images(dataset, holdout, seed))


SPLITS: dict[str, Callable[[RealDataset, float, int], Exam]] = {"test": _test, "heldout": _heldout}
