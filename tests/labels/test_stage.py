"""What the students' names hold of their labels."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from teddy.artifacts.store import ArtifactStore
from teddy.data.spec import DatasetSpec
from teddy.labels.stage import LabelRecipe, _teachers_identity, hard_labels, prepare_labels
from teddy.labels.views import ViewRecipe
from teddy.pool.members import Member, ModelPool
from teddy.runtime.precision import Compute

SPEC = DatasetSpec("toy", 2, 1, 8, (0.5,), (0.25,), ("a", "b"), ("0", "1"))
CPU = Compute("cpu", "float32")


@pytest.fixture
def pool():
    members = [Member("convnet2_w4", Path(f"{epoch}"), epoch, f"toy/{epoch}", 0.0, 0.0) for epoch in (1, 2)]
    return ModelPool(tuple(members), SPEC, "toy")


def recipe(kind, **changes):
    settings = dict(members=None, member_policy="spread", temperature=4.0, average="logits", batch_size=4, epochs=2)
    settings["top_k"] = None
    return LabelRecipe(**{"kind": kind, **settings, **changes}, view=ViewRecipe(), seed=0)


def test_online_labels_have_a_version_of_their_own_and_the_others_keep_theirs(pool, tmp_path):
    images = SimpleNamespace(fingerprint="abc")
    online = prepare_labels(ArtifactStore(tmp_path), pool, images, recipe("online"), CPU)
    assert online.identity == {**_teachers_identity(pool, recipe("online"), CPU), "version": 2}
    assert _teachers_identity(pool, recipe("stored"), CPU)["version"] == 1
    assert hard_labels(images).identity == {"kind": "hard"}


def test_the_size_of_chunks_is_none_of_the_students_business(pool, tmp_path):
    images, store = SimpleNamespace(fingerprint="abc"), ArtifactStore(tmp_path)
    one, other = (prepare_labels(store, pool, images, recipe("online", batch_size=size), CPU) for size in (4, 5))
    assert one.identity == other.identity
    warm = prepare_labels(store, pool, images, recipe("online", temperature=5.0), CPU)
    assert warm.identity != one.identity
