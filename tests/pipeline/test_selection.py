"""Methods that choose real images, through labels and students."""

import json

from PIL import Image
from safetensors.numpy import load_file


def test_selection_from_one_scoring_run_and_mosaics(workspace):
    methods = ["el2n", "cad_prune", "kmeans", "rded", "mosaic"]
    few = ("methods.cad_prune.window=2", "methods.rded.candidates=4", "methods.rded.crops=2")
    done = workspace.run(f"method=[{','.join(methods)}]", *few)
    assert [(row["method"], row["ipc"]) for row in done.rows] == [(name, 1) for name in methods]
    assert workspace.kinds() == {"images": 5, "labels": 5, "scores": 1, "students": 5, "trajectory": 1}
    shapes = {}
    for path in workspace.store.glob("labels/*/labels.safetensors"):
        content = json.loads(path.with_name("manifest.json").read_text())["content"]
        shapes[content["images"]] = load_file(path)["logits"].shape
    for row in done.rows:
        images = row["fingerprints"]["images"]
        (file, *others) = (workspace.store / "images" / images / "images" / "00_t_shirt_top").iterdir()
        assert (Image.open(file).size, others) == ((28, 28), [])
        assert shapes[images] == (3, 40 if row["method"] == "mosaic" else 10, 10), "epochs, images as students see them"


def test_a_window_larger_than_the_pool_is_refused_before_anything_is_written(workspace):
    done = workspace.run("method=cad_prune", code=2)
    assert "methods.cad_prune.window=3 is more than the pool's 2 teachers" in done.sentence
    assert not workspace.store.exists()
