"""A search opens no test image: it comes to its choice with test images that cannot be read, and only then fails on them."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SRC = Path(__file__).resolve().parents[2] / "src"
FILE = """
# Two step sizes and one that diverges.
method: teddy
trials: 3
values: {pool.training.lr: [0.05, 1.0e+7, 0.1]}
shared: {evaluation.epochs: 2}
"""
ARGUMENTS = (
    *("--config-dir=private", "+search=own", "dataset=imagefolder", "dataset.root=data", "dataset.holdout=0.25"),
    *(
        "dataset.augment.min_scale=0.9",
        "pool.training.batch_size=16",
        "stages=[pool,synthesis,labels,evaluation,report]",
    ),
)


def write_images(folder: Path, count: int, seed: int) -> None:
    """Three classes of noise around three levels of grey."""
    noise = np.random.default_rng(seed)
    for level, name in enumerate(("dark", "middle", "light")):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = noise.normal(60 + 70 * level, 20, (8, 8)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")


@pytest.fixture
def pictures(workspace):
    """Training images, and test images that are as long as they should be but no images; returns how to mend these."""
    write_images(workspace.folder / "data" / "train", 12, seed=1)
    write_images(workspace.folder / "data" / "test", 5, seed=2)
    (workspace.folder / "private" / "search").mkdir(parents=True)
    (workspace.folder / "private" / "search" / "own.yaml").write_text(FILE)
    files = {path: path.read_bytes() for path in (workspace.folder / "data" / "test").rglob("*.png")}
    for path, content in files.items():
        path.write_bytes(b"x" * len(content))
    return lambda: [path.write_bytes(content) for path, content in files.items()]


def test_the_test_images_are_opened_by_the_winner_alone(workspace, tiny, pictures):
    blind = workspace.run(*ARGUMENTS, base=tiny, code=2)
    assert f"{Path('data') / 'test'}{os.sep}" in blind.sentence
    assert "cannot be read as an image" in blind.sentence
    assert "Trial 1 failed: teacher training diverged" in blind.out

    with (blind.folder / "search.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3
    assert {row["trial"]: bool(row["failed"]) for row in rows} == {"0": False, "1": True, "2": False}
    assert rows[-1]["trial"] == "1"
    tops = {}
    for number in ("0", "2"):
        results = [json.loads(line) for line in (blind.folder / number / "results.jsonl").read_text().splitlines()]
        assert {(one["method"], one["protocol"]) for one in results} == {("teddy", "paper heldout")}
        tops[number] = results[0]["top1"]
        (row,) = (row for row in rows if row["trial"] == number)
        assert float(row["mean"]) == pytest.approx(tops[number], abs=1e-3)
        assert (blind.folder / number / "curves" / "metrics.csv").is_file()
    choice = json.loads((blind.folder / "search.json").read_text())
    best = max(tops, key=lambda number: (tops[number], -int(number)))
    assert choice["overrides"] == {"pool.training.lr": {"0": "0.05", "2": "0.1"}[best]}
    assert (blind.folder / "index.html").is_file()
    assert not (blind.folder / "final" / "results.jsonl").exists()

    # The same command goes on: with whichever launcher, the trials are found, and the winner is tested.
    pictures()
    before = workspace.manifests()
    side_by_side = ["+launch=joblib"] * bool(importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher"))
    command = [sys.executable, "-m", "teddy", *tiny, *ARGUMENTS, *side_by_side, "hydra.sweep.dir=again"]
    environment = {**os.environ, "TEDDY_STORE": str(workspace.store), "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=workspace.folder, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    folder = workspace.folder / "again"
    assert before.items() <= workspace.manifests().items()
    again = json.loads((folder / "search.json").read_text())
    assert {**again, "command": ""} == {**choice, "command": ""}
    results = [json.loads(line) for line in (folder / "final" / "results.jsonl").read_text().splitlines()]
    assert [(one["method"], one["protocol"]) for one in results] == [("teddy", "paper"), ("random", "paper")]
    record = json.loads((folder / "final" / "run.json").read_text())
    assert record["facts"]["settings"] == "the best of a search on held-out training images"
    assert "a search on held-out training images" in (folder / "final" / "index.html").read_text()
    assert "settings" not in json.loads((folder / "0" / "run.json").read_text())["facts"]
    assert "epochs: 3\n" in (folder / "final" / "config.yaml").read_text()
