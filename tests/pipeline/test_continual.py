"""Class-incremental learning: what each step stores, how its students are labelled and tested."""

from __future__ import annotations

import pytest
import torch

from teddy.config.errors import UserError
from teddy.continual import ClassIncremental
from teddy.labels.ensemble import PoolLabeller

CONTINUAL = ("evaluation=continual", "evaluation.task.steps=2", "evaluation.task.orders=2", "method=[classwise,random]")
SMALL = ("methods.classwise.iterations=2", "methods.classwise.augmentations=1", "methods.classwise.real_images=8")


def test_each_order_deals_every_class_once():
    task = ClassIncremental(steps=5, orders=5, mode="paper")
    orders = [task.parts(13, order) for order in range(5)]
    for parts in orders:
        assert sorted(label for part in parts for label in part) == list(range(13))
        assert sorted(map(len, parts)) == [2, 2, 3, 3, 3]
    assert len({str(parts) for parts in orders}) == 5
    with pytest.raises(UserError, match=r"evaluation\.task\.steps=5 .* at most 4"):
        task.parts(9, 0)


def test_restricted_soft_labels_are_the_prediction_given_the_classes():
    torch.manual_seed(0)
    teachers = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 5)) for _ in range(2)]
    images = torch.randn(3, 1, 4, 4)
    whole = PoolLabeller(teachers)(images).softmax(1)
    given = whole[:, [1, 4]] / whole[:, [1, 4]].sum(1, keepdim=True)
    assert torch.allclose(PoolLabeller(teachers, classes=[1, 4])(images).softmax(1), given)


@pytest.mark.parametrize("kind", ["stored", "online"])
def test_with_a_pool_of_all_classes_the_stored_images_grow(workspace, kind):
    done = workspace.run(
        *CONTINUAL, *SMALL, f"labels={kind}", "evaluation.epochs=2", "stages=[pool,synthesis,labels,evaluation,report]"
    )
    assert [(row["method"], row["classes"]) for row in done.rows] == [
        (method, classes) for method in ("classwise", "random") for _ in range(2) for classes in (5, 10)
    ]
    whole = {row["fingerprints"]["images"] for row in done.rows if row["classes"] == 10 and row["method"] == "random"}
    assert len(whole) == 1, "all classes are the same images in every order"
    kinds = workspace.kinds()
    assert (kinds["trajectory"], kinds["images"]) == (1, 2)
    assert kinds.get("labels", 0) == (6 if kind == "stored" else 0)  # 2 methods: 2 halves and the whole
    assert kinds["students"] == 6
    assert (done.folder / "figures" / "classes.png").stat().st_size > 10_000
    assert "| classes |" in (done.folder / "results.md").read_text()


def test_strictly_each_step_has_teachers_and_images_of_its_own(workspace):
    words = (*CONTINUAL, *SMALL, "evaluation.task.mode=strict", "evaluation.epochs=2")
    refused = workspace.run(*words, code=2)
    assert "evaluation.task.mode=strict" in refused.sentence
    done = workspace.run(*words, "evaluation.protocol=dm")
    assert [row["classes"] for row in done.rows] == [5, 10] * 4
    assert workspace.kinds() == {"bank": 8, "images": 8, "students": 8, "trajectory": 4}
    again = workspace.run(*words, "evaluation.protocol=dm")
    assert [row["top1"] for row in again.rows] == [row["top1"] for row in done.rows]
    assert workspace.kinds()["students"] == 8
