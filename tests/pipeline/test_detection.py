"""Detection end to end: detectors as teachers and students, and images with boxes between them."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from teddy.sets.folder import open_set

DETECTION = (
    "+experiment=shapes_detection",
    "trainer=cpu",
    "trainer.precision=32-true",
    "trainer.threads=1",
    "logger=csv",
    "dataset.size=64",
    "dataset.source.train=24",
    "dataset.source.test=6",
    "pool.first=1",
    "pool.last=2",
    "pool.every=1",
    "pool.training.epochs=3",
    "synthesis.ipc=3",
    "synthesis.iterations=4",
    "synthesis.teachers_per_block=2",
    "methods.sre2l.iterations=2",
    "evaluation.epochs=2",
    "evaluation.seeds=1",
)


def test_a_run_distils_images_with_boxes_and_measures_map(workspace):
    pytest.importorskip("pycocotools")
    done = workspace.run(*DETECTION, base=())
    assert [(row["method"], row["measure"], row["labels"], row["ipc"]) for row in done.rows] == [
        (method, "map50", "hard", 3) for method in ("teddy", "sre2l", "random")
    ]
    assert all(0 <= row["coco_map"] <= row["top1"] <= 100 for row in done.rows)
    assert workspace.kinds() == {"images": 3, "students": 3, "trajectory": 1}

    record = json.loads((done.folder / "run.json").read_text())
    boxes = []
    for method in ("teddy", "sre2l", "random"):
        folder = workspace.folder / record["methods"][method]["images"]
        annotations = json.loads((folder / "annotations.json").read_text())
        assert [one["file_name"] for one in annotations["images"]] == [f"scenes/{i:04d}.png" for i in range(3)]
        assert all(Image.open(folder / one["file_name"]).size == (64, 64) for one in annotations["images"])
        boxes.append(annotations["annotations"])
    assert boxes[0] == boxes[1] == boxes[2] != [], "all methods get the objects of the same real images"

    about = open_set(done.folder / "sets" / "teddy").description
    assert (about.dataset.boxes, about.labels.kind) == ("images/annotations.json", "hard")
    assert [(one["measure"], len(one["top1"])) for one in about.results] == [("map50", 1)]

    text = (done.folder / "results.md").read_text()
    assert "| mAP50 % |" in text
    assert "mAP50-95 %" in text
    assert "top-1" not in text.lower()
    assert (done.folder / "terms_teddy.csv").read_text().startswith("block,iteration,loss,detection,bn_statistics")
    assert [one["top1_holdout"] >= 0 for one in record["pool"]] == [True] * 3

    images = {path: fact for path, fact in workspace.results().items() if path.startswith("images")}
    stopped = workspace.folder / "store"
    for kind in ("images", "students"):
        (stopped / kind).rename(workspace.folder / f"old_{kind}")
    again = workspace.run(*DETECTION, "method=[detection/teddy]", "synthesis.checkpoint_every=1", base=())
    assert again.rows[0]["top1"] == done.rows[0]["top1"]
    remade = workspace.results()
    (path,) = (path for path in remade if path.startswith("images"))
    assert remade[path] == images[path]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("method=[detection/random,herding]",), "method=herding knows no boxes"),
        (("labels.mix=cutmix",), "labels.mix=none"),
        (("pool=post",), "no pruned teachers"),
        (("evaluation.protocol=paper",), "neither soft labels nor a divergence"),
        (("synthesis.view.flip=true",), "leave the canvas as it is"),
    ],
)
def test_what_is_for_classifiers_is_refused_before_anything_is_written(workspace, words, sentence):
    pytest.importorskip("pycocotools")
    refused = workspace.run(*DETECTION, *words, base=(), code=2)
    assert sentence in refused.sentence
    assert not refused.folder.exists()


def test_images_without_boxes_are_refused(workspace):
    pytest.importorskip("pycocotools")
    words = ("dataset=fashion_mini", "dataset.augment.crop=none", "method=[detection/random]")
    refused = workspace.run(*DETECTION[:5], *words, base=(), code=2)
    assert "choose dataset=voc or dataset=shapes" in refused.sentence
