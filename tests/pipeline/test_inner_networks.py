"""Methods with networks in training, cut down to seconds: from the command to students."""

import csv

import pytest

SMALL = (
    "method=[dc,dsa,idm,random]",
    "labels=hard",
    "evaluation.protocol=dm",
    *(f"methods.{name}.{key}" for name in ("dc", "dsa", "idm") for key in ("network=convnet2_w8_in", "iterations=4")),
    *(f"methods.{name}.real_images=4" for name in ("dc", "dsa", "idm")),
    *(f"methods.{name}.{key}" for name in ("dc", "dsa") for key in ("outer_loops=2", "inner_loops=2")),
    "methods.idm.train_steps=2",
    "methods.idm.every=2",
)


def test_all_of_them_run_side_by_side(workspace):
    done = workspace.run(*SMALL)
    assert [(row["method"], row["pool"]) for row in done.rows] == [
        (name, "") for name in ("dc", "dsa", "idm", "random")
    ]
    assert workspace.kinds() == {"images": 4, "students": 4}, "no teacher is trained"
    terms = {name: next(csv.reader((done.folder / f"terms_{name}.csv").open()))[2:] for name in ("dc", "dsa", "idm")}
    assert terms["dc"] == terms["dsa"] == ["gradient_distance"]
    assert terms["idm"] == ["loss", "class_means", "cross_entropy", "network_accuracy"]


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("methods.dc.network=convnet3", "network 'convnet3' has BatchNorm"),
        ("methods.idm.tiles=3", "images of 28 x 28 pixels cannot hold 3 x 3 tiles"),
        ("methods.idm.most=2", "a queue of most=2 networks cannot begin with first=3"),
        ("+methods.dsa.blocks_at_once=2", "leave blocks_at_once at 1"),
        ("methods.dc.strategy=flip", "methods.dc.strategy='flip' must be 'none', 'dsa'"),
    ],
)
def test_a_mistake_is_a_sentence_before_anything_is_trained(workspace, word, sentence):
    done = workspace.run(*SMALL, word, code=2)
    assert sentence in done.sentence
    assert not workspace.kinds()
