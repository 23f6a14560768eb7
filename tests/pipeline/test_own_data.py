"""A user's own folder through the whole preset, cut down."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from teddy.data.sources.listing import class_folders, draw_test, list_images
from tests.conftest import SHORT

FEW = (
    "+experiment=own_data",
    "dataset.root=mine",
    "dataset.test_fraction=0.25",
    "synthesis.iterations=2",
    "synthesis.ipc=1",
    "stages=[pool,synthesis,labels,evaluation]",
)


def test_a_flat_folder_is_said_split_listed_and_decoded_once(workspace):
    folder = workspace.folder / "mine"
    for label, name in enumerate(("ant", "bee", "train")):
        for index in range(8):
            (folder / name).mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng([label, index]).integers(0, 256, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    short = [word for word in SHORT if not word.startswith(("name=", "evaluation.protocol=", "pool.every="))]
    done = workspace.run(*short, "pool.size=2", "model=convnet3_w32", "model.name=convnet2_w8", base=FEW)
    text = " ".join(done.out.split())
    assert (
        "Data: 18 training and 6 test images of 3 classes, 12 x 12, colour. Not all images are square (16 x 12)" in text
    )
    assert "dataset.size=12 model.name=convnet2_w8 " in text
    classes = class_folders(folder)
    parts = draw_test(list_images(folder, classes), folder, 0.25, 0)
    listed = json.loads((done.folder / "split.json").read_text())
    for name, part in zip(("train", "test"), parts, strict=True):
        assert [str(folder / file) for file in listed[name]] == [path for path, _ in part]
    assert len(list((workspace.store / "decoded").iterdir())) == 1
    assert {row["dataset"] for row in done.rows} == {"own_data_mine"}
    assert {row["protocol"] for row in done.rows} == {"own"}


def test_a_folder_that_is_not_there_is_refused_before_anything_is_written(workspace):
    done = workspace.run(base=FEW, code=2)
    assert "dataset.root=mine does not exist" in done.sentence
    assert not done.folder.exists()
    assert not workspace.store.exists()
