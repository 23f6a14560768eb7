"""Who labels the views: asked while students train, stored beforehand for all of them, or the class indices."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from teddy.artifacts.fingerprint import fingerprint
from teddy.artifacts.store import ArtifactStore
from teddy.labels.ensemble import PoolLabeller
from teddy.labels.members import MEMBER_POLICIES
from teddy.labels.packing import Dense, packing
from teddy.labels.sources import HardLabels, LabelSource, OnlineLabels, StoredLabels
from teddy.labels.store import LOGITS, write_stored_labels
from teddy.labels.views import ViewMaker, ViewRecipe
from teddy.pool.members import ModelPool
from teddy.runtime.precision import Compute
from teddy.runtime.progress import StageProgress
from teddy.synthesis.stage import ImageFolderArtifact

VERSION = 1
RESUME_SECONDS = 1.0
"""Shortest time between two points to go on from: the disk may take as long as labelling an epoch of a hundred images."""
ONLINE_VERSION = 2
"""2: all views of an epoch are labelled at its beginning, in fixed chunks; before, those of each student's batch."""


@dataclass(frozen=True)
class LabelRecipe:
    """How the distilled images are labelled (Algorithm 1, last line; Sec. D.3).

    Attributes:
        kind: "online", "stored" or "hard".
        members: how many of the pool's teachers answer; None means all.
        member_policy: which ones, see :data:`teddy.labels.members.MEMBER_POLICIES`.
        epochs: epochs of views that stored labels cover.
        top_k: how many logits of a view stored labels keep, see :class:`teddy.labels.packing.TopK`; None means all.
        seed: of the views; shared by all students, so that stored labels serve every one of them.
    """

    kind: str
    members: int | None
    member_policy: str
    temperature: float
    average: str
    batch_size: int
    epochs: int
    top_k: int | None
    view: ViewRecipe
    seed: int


@dataclass(frozen=True)
class Labels:
    """Labels that students can be trained with.

    Attributes:
        identity: what the labels depend on, for the students' fingerprints.
        fingerprint: names the labels of these images.
        source: makes the label source for students on the run's device.
        megabytes: size on disk; 0 where nothing is stored.
        megabytes_in_full: size with all logits of every view.
        kept: what is stored of a view, in words; empty where nothing is.
        seconds: how long storing took.
    """

    kind: str
    identity: dict[str, Any]
    source: Callable[[], LabelSource]
    fingerprint: str = ""
    megabytes: float = 0.0
    megabytes_in_full: float = 0.0
    kept: str = ""
    seconds: float = 0.0


def prepare_labels(
    store: ArtifactStore, pool: ModelPool, images: ImageFolderArtifact, recipe: LabelRecipe, compute: Compute
) -> Labels:
    """Gets the labels of a distilled set ready; only stored labels are computed here."""
    return KINDS[recipe.kind](store, pool, images, recipe, compute)


def _teachers_identity(pool: ModelPool, recipe: LabelRecipe, compute: Compute) -> dict[str, Any]:
    chosen = _chosen(pool, recipe)
    return {
        "version": VERSION,
        "kind": recipe.kind,
        "teachers": [pool.members[index].identity for index in chosen],
        "temperature": recipe.temperature,
        "average": recipe.average,
        "view": asdict(recipe.view),
        "seed": recipe.seed,
        "precision": compute.precision,
    }


def _chosen(pool: ModelPool, recipe: LabelRecipe) -> list[int]:
    if recipe.members is None:
        return list(range(len(pool)))
    return MEMBER_POLICIES[recipe.member_policy](len(pool), recipe.members, recipe.seed)


def _labeller(pool: ModelPool, recipe: LabelRecipe, compute: Compute) -> PoolLabeller:
    teachers = [pool.load(index, compute.device, compute.frozen_weights) for index in _chosen(pool, recipe)]
    precision = torch.bfloat16 if compute.precision == "bfloat16" else None
    return PoolLabeller(teachers, recipe.average, recipe.temperature, recipe.batch_size, precision)


def _online(
    store: ArtifactStore, pool: ModelPool, images: ImageFolderArtifact, recipe: LabelRecipe, compute: Compute
) -> Labels:
    identity = _teachers_identity(pool, recipe, compute) | {"version": ONLINE_VERSION}
    name = fingerprint({"labels": identity, "images": images.fingerprint})

    def source() -> LabelSource:
        return OnlineLabels(_labeller(pool, recipe, compute), recipe.temperature, recipe.batch_size)

    return Labels("online", identity, source, name)


def _stored(
    store: ArtifactStore, pool: ModelPool, images: ImageFolderArtifact, recipe: LabelRecipe, compute: Compute
) -> Labels:
    spec = pool.spec
    form = packing(spec.num_classes, recipe.top_k, recipe.temperature)
    identity = _teachers_identity(pool, recipe, compute) | {"epochs": recipe.epochs} | form.identity
    # The student applies the temperature; logits only depend on it when probabilities, or those left out, are averaged.
    # The batch size changes no view, but may change the last bit of a matrix product.
    content = {**identity, "images": images.fingerprint, "batch_size": recipe.batch_size}
    if recipe.average == "logits" and recipe.top_k is None:
        del content["temperature"]

    def build(folder: Path) -> dict[str, Any]:
        views = ViewMaker(images.images.images, spec, recipe.view, recipe.seed).to(compute.device)
        shown: list[StageProgress] = []
        with contextlib.ExitStack() as stack:

            def show(done: int, total: int) -> None:
                if shown:
                    shown[0].advance(done - shown[0].done)
                else:  # only now it is known how much an earlier run has done
                    shown.append(stack.enter_context(StageProgress("labels", total, "views", done=done)))

            return write_stored_labels(
                folder,
                views,
                _labeller(pool, recipe, compute),
                epochs=recipe.epochs,
                num_samples=len(images.images),
                packing=form,
                batch_size=recipe.batch_size,
                on_progress=show,
                seconds=RESUME_SECONDS,
            )

    artifact = store.produce("labels", content, build)
    path = artifact.folder / LOGITS
    return Labels(
        "stored",
        identity,
        lambda: StoredLabels(path, len(images.images), form, recipe.temperature),
        artifact.fingerprint,
        megabytes=float(artifact.facts["megabytes"]),
        megabytes_in_full=Dense(spec.num_classes).megabytes(recipe.epochs, len(images.images)),
        kept=str(form),
        seconds=float(artifact.facts["seconds"]),
    )


def _hard(
    store: ArtifactStore, pool: ModelPool, images: ImageFolderArtifact, recipe: LabelRecipe, compute: Compute
) -> Labels:
    return hard_labels(images)


def hard_labels(images: ImageFolderArtifact) -> Labels:
    """The class indices of the images, mixed as their views are."""
    name = fingerprint({"labels": "hard", "images": images.fingerprint})
    return Labels("hard", {"kind": "hard"}, lambda: HardLabels(images.images.labels, images.spec.num_classes), name)


KINDS = {"online": _online, "stored": _stored, "hard": _hard}
