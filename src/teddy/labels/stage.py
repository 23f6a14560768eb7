"""Labels of a distilled set: stored once for all students, computed while a student trains, or the class indices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from teddy.artifacts.fingerprint import fingerprint
from teddy.artifacts.store import ArtifactStore, Outlook
from teddy.labels.compression import AllLogits, compression
from teddy.labels.ensemble import PoolLabeller, spread_members
from teddy.labels.sources import FixedLabels, HardLabels, LabelSource, OnlineLabels
from teddy.labels.store import LABELS, StoredLabels, allocate, write_stored_labels
from teddy.labels.views import ViewMaker, ViewRecipe
from teddy.pool.members import Member, ModelPool
from teddy.runtime.device import DeviceConfig
from teddy.runtime.progress import counted
from teddy.synthesis.stage import SyntheticImages

VERSION = 2
RESUME_SECONDS = 1.0  # between two resume points: syncing the disk may take as long as labelling an epoch


@dataclass(frozen=True)
class LabelRecipe:
    """How the distilled images are labelled (Algorithm 1, last line; Sec. D.3)."""

    kind: str  # "stored" or "online" (labels of every view), "fixed" (one label for an image) or "hard"
    members: int | None  # of the pool's teachers, evenly spread over the pool; None: all
    temperature: float
    batch_size: int
    epochs: int  # of views that stored labels cover
    top_k: int | None  # logits of a view that are stored, see TopK; None: all
    view: ViewRecipe
    seed: int  # of the views; shared by all students, so that stored labels serve every one of them


@dataclass(frozen=True)
class Labels:
    """Labels that students can be trained with."""

    kind: str
    identity: dict[str, Any]  # what the labels depend on, for the students' fingerprints
    source: Callable[[], LabelSource]  # makes that of a student, on the run's device
    fingerprint: str = ""  # names the labels of these images
    megabytes: float = 0.0  # on disk
    megabytes_in_full: float = 0.0  # with all logits of every view
    compression: str = ""  # what is stored of a view, for people
    seconds: float = 0.0  # that storing took
    teachers: tuple[Member, ...] = ()  # that label
    file: Path | None = None  # of stored labels


def prepare_labels(
    store: ArtifactStore,
    pool: ModelPool,
    images: SyntheticImages,
    recipe: LabelRecipe,
    device_config: DeviceConfig,
    classes: Sequence[int] | None = None,
) -> Labels:
    """Label the distilled images; only stored labels are computed here, or found in the store.

    If the images have some of the teachers' classes alone, soft labels are predictions given that it is one of these.
    """
    if recipe.kind == "hard":
        return hard_labels(images)
    spec, chosen = images.spec, spread_members(len(pool), recipe.members)
    teachers = tuple(pool.members[index] for index in chosen)
    identity = {
        "version": VERSION,
        "kind": recipe.kind,
        "teachers": [member.identity for member in teachers],
        "temperature": recipe.temperature,
        "view": asdict(recipe.view),
        "seed": recipe.seed,
        **device_config.fingerprint,
    }
    if classes is not None:
        identity["classes"] = list(classes)

    def labeller() -> PoolLabeller:
        return PoolLabeller(pool.load_teachers(device_config, chosen), device_config.autocast, classes)

    name, in_full = fingerprint({"labels": identity, "images": images.fingerprint}), AllLogits(spec.num_classes)

    def computed(kind: type[OnlineLabels | FixedLabels]) -> Callable[[], LabelSource]:
        return lambda: kind(labeller(), recipe.temperature, recipe.batch_size)

    if recipe.kind == "online":
        return Labels("online", identity, computed(OnlineLabels), name, teachers=teachers)
    if recipe.kind == "fixed":
        size, what = in_full.megabytes(1, len(images.images)), "one label for an image"
        return Labels("fixed", identity, computed(FixedLabels), name, size, size, what, teachers=teachers)

    stored = compression(spec.num_classes, recipe.top_k, recipe.temperature)
    identity |= {"epochs": recipe.epochs} | ({"top_k": recipe.top_k} if recipe.top_k else {})
    # The batch size changes no view, but may change the last bit of a matrix product.
    content = {**identity, "images": images.fingerprint, "batch_size": recipe.batch_size, "format": "safetensors"}
    if recipe.top_k is None:  # the student applies the temperature; only the logit of the rest depends on it
        del content["temperature"]

    def build(folder: Path) -> dict[str, Any]:
        views = ViewMaker(images.images.images.to(device_config.device), spec, recipe.view, recipe.seed)
        return write_stored_labels(folder, views, labeller(), recipe.epochs, stored, recipe.batch_size, RESUME_SECONDS)

    def stand_in(folder: Path) -> None:
        with (folder / LABELS).open("wb") as stream:
            allocate(stream, stored, *shape)

    shape, full = (recipe.epochs, len(images.images)), (spec.num_classes, recipe.batch_size)
    outlook = Outlook(
        f"{counted(shape[0], 'epoch')} of {counted(shape[1], 'view')} by {counted(len(chosen), 'teacher')}",
        {"megabytes": stored.megabytes(*shape), "seconds": math.nan},
        stand_in,
        alike=("labels", [pool.members[index].network for index in chosen], *shape, full),
        label="labels",
    )
    artifact = store.produce("labels", content, build, outlook=lambda: outlook)
    path = artifact.file(LABELS)
    return Labels(
        "stored",
        identity,
        lambda: StoredLabels(path, shape, stored, recipe.temperature),
        artifact.fingerprint,
        megabytes=float(artifact.facts["megabytes"]),
        megabytes_in_full=in_full.megabytes(*shape),
        compression=stored.title,
        seconds=float(artifact.facts["seconds"]),
        teachers=teachers,
        file=path,
    )


def hard_labels(images: SyntheticImages) -> Labels:
    """Label images by their class indices, mixed as their views are."""
    name = fingerprint({"labels": "hard", "images": images.fingerprint})
    return Labels("hard", {"kind": "hard"}, lambda: HardLabels(images.images.labels, images.spec.num_classes), name)
