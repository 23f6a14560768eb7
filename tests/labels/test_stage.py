"""Labels of a distilled set: fingerprints, sizes, and the agreement of stored and online labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from teddy.artifacts.fingerprint import fingerprint
from teddy.artifacts.store import ArtifactStore
from teddy.data.images import TensorImages
from teddy.data.spec import DatasetSpec
from teddy.labels.stage import LabelRecipe, Labels, hard_labels, prepare_labels
from teddy.labels.views import ViewMaker, ViewRecipe
from teddy.models.networks import build_network
from teddy.pool.members import Member, ModelPool
from teddy.runtime.device import DeviceConfig
from teddy.runtime.resume import save_tensors

SPEC = DatasetSpec("toy", 4, 1, 8, (0.5,), (0.25,), ("a", "b", "c", "d"), ("0", "1", "2", "3"))
PIXELS = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IMAGES: Any = SimpleNamespace(fingerprint="abc", images=TensorImages(PIXELS, torch.arange(6) % 4), spec=SPEC)
CPU = DeviceConfig("cpu", "32-true")
STORED = LabelRecipe("stored", None, 4.0, batch_size=4, epochs=2, top_k=None, view=ViewRecipe(), seed=0)


@pytest.fixture
def pool(tmp_path: Path) -> ModelPool:
    members = []
    for epoch in (1, 2, 3):
        file = tmp_path / f"{epoch}.safetensors"
        save_tensors(file, build_network("convnet2_w4", 4, 1, 8, seed=epoch).state_dict())
        members.append(Member("convnet2_w4", file, epoch, f"toy/{epoch}", 0.0))
    return ModelPool(tuple(members), SPEC, "toy")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def targets(labels: Labels, epoch: int) -> torch.Tensor:
    views, source = ViewMaker(PIXELS, SPEC, ViewRecipe(), 0), labels.source()
    source.begin_epoch(source.view_epoch(epoch), views)
    return source.targets(torch.arange(6), views(source.view_epoch(epoch), torch.arange(6)))


def test_stored_labels_are_the_online_ones_and_are_written_once(pool: ModelPool, store: ArtifactStore) -> None:
    stored, online = (
        prepare_labels(store, pool, IMAGES, replace(STORED, kind=kind), CPU) for kind in ("stored", "online")
    )
    for epoch in (0, 1):
        torch.testing.assert_close(targets(stored, epoch), targets(online, epoch), atol=2e-3, rtol=2e-3)
    assert torch.equal(targets(stored, 2), targets(stored, 0))
    assert (stored.megabytes, stored.megabytes_in_full) == (pytest.approx(2 * 6 * 4 * 2 / 1e6, abs=2e-4), 96e-6)
    assert (online.megabytes, online.compression) == (0.0, "")
    again = prepare_labels(store, pool, IMAGES, STORED, CPU)
    assert (again.fingerprint, again.seconds) == (stored.fingerprint, stored.seconds)
    assert len(store.made) == 1


def test_fewer_members_and_fewer_logits_are_other_labels(pool: ModelPool, store: ArtifactStore) -> None:
    recipes = [STORED, replace(STORED, members=2), replace(STORED, top_k=2), replace(STORED, view=ViewRecipe(flip=0.0))]
    made = [prepare_labels(store, pool, IMAGES, recipe, CPU) for recipe in recipes]
    assert len({labels.fingerprint for labels in made}) == 4
    assert made[1].identity["teachers"] == ["toy/1", "toy/3"]
    assert [labels.identity.get("top_k") for labels in made] == [None, None, 2, None]
    assert made[2].compression == "the 2 largest of 4 logits of a view, and one for the rest"
    assert made[2].megabytes_in_full == made[0].megabytes_in_full


@pytest.mark.parametrize(("top_k", "name"), [(None, "60a4e612f22bc570"), (2, "90e5e6718ed4ad7f")])
def test_students_of_earlier_versions_stay_valid(
    pool: ModelPool, store: ArtifactStore, top_k: int | None, name: str
) -> None:
    """The names of the time when the store held ``logits.npy``: the format of the file is no part of a student."""
    labels = prepare_labels(store, pool, IMAGES, replace(STORED, top_k=top_k), CPU)
    assert fingerprint(labels.identity) == name


def test_the_temperature_is_the_students_unless_logits_are_left_out(pool: ModelPool, store: ArtifactStore) -> None:
    for top_k, expected in ((None, 1), (2, 2)):
        recipes = [replace(STORED, top_k=top_k, temperature=temperature) for temperature in (4.0, 5.0)]
        made = [prepare_labels(store, pool, IMAGES, recipe, CPU) for recipe in recipes]
        assert len({labels.fingerprint for labels in made}) == expected
        assert made[0].identity != made[1].identity


def test_students_do_not_depend_on_the_size_of_chunks(pool: ModelPool, store: ArtifactStore) -> None:
    for kind in ("stored", "online"):
        one, other = (
            prepare_labels(store, pool, IMAGES, replace(STORED, kind=kind, batch_size=size), CPU) for size in (4, 5)
        )
        assert one.identity == other.identity


def test_hard_labels_ask_no_teacher(pool: ModelPool, store: ArtifactStore) -> None:
    labels = prepare_labels(store, pool, IMAGES, replace(STORED, kind="hard"), CPU)
    assert labels.identity == hard_labels(IMAGES).identity == {"kind": "hard"}
    assert targets(labels, 0).sum(1).tolist() == pytest.approx([1.0] * 6)
