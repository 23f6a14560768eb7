"""Folders of runs as the pipeline writes them, made by hand."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image, ImageColor

FACTS = dict(dataset="toy", ipc=10, pool="prior 1-6 (6)", labels="stored", protocol="paper", student="convnet3")


def _student(method, seed, top1, print_of="", **changes):
    fingerprints = {"student": f"{method}-{print_of}-{seed}"} if print_of else {}
    return dict(method=method, seed=seed, top1=top1, fingerprints=fingerprints, **{**FACTS, **changes})


@pytest.fixture
def students():
    """Rows of a ledger, one per accuracy; ``print_of`` is what makes their fingerprints differ from others'."""

    def make(method, top1, print_of="", **changes):
        return [_student(method, seed, value, print_of, **changes) for seed, value in enumerate(top1)]

    return make


@pytest.fixture
def make_run():
    def make(folder, rows, settings=None, overrides=(), record=None):
        (folder / ".hydra").mkdir(parents=True)
        (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = {"name": "toy", "stages": ["evaluation", "report"], **(settings or {})}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
        (folder / "results.md").write_text("its own report")
        if record is not None:
            (folder / "run.json").write_text(json.dumps(record))
        return folder

    return make


@pytest.fixture
def make_images():
    """A folder of images whose level of red tells the class, of green the place, and of blue the folder."""

    def make(folder, blue, classes=("ant", "bee", "cat"), count=3, size=8):
        for label, name in enumerate(classes):
            (folder / name).mkdir(parents=True)
            for place in range(count):
                Image.new("RGB", (size, size), (20 + 10 * label, 20 + 10 * place, blue)).save(
                    folder / name / f"{place:04}.png"
                )
        return folder

    return make


@pytest.fixture
def teachers_sweep(tmp_path, make_run, students):
    """Three jobs with one to three teachers per block; random's students are the same in all."""
    top1 = {1: [50.0, 51.0, 52.0], 2: [53.0, 54.0, 55.0], 3: [51.0, 53.0, 55.0]}
    folder = tmp_path / "sweeps" / "toy" / "now"
    for job, (count, values) in enumerate(top1.items()):
        cost = dict(pool_seconds=60.0, synthesis_seconds=30.0 * count, synthesis_peak_memory_mb=1000.0 * count)
        rows = students("teddy", values, f"tpb{count}", cost=cost) + students("random", [48.0, 49.0, 50.0], "any")
        settings = {"synthesis": {"teachers_per_block": count, "ipc": 10, "lr": 0.1 * count}}
        words = ["+experiment=toy", f"synthesis.teachers_per_block={count}"]
        make_run(folder / str(job), rows, settings, words)
    (folder / "multirun.yaml").write_text("hydra: {}\n")
    return folder


@pytest.fixture
def pixels_of():
    """How many pixels of a picture have about this colour, and where they are."""

    def count(path, colour, where=False):
        image = np.asarray(Image.open(path).convert("RGB")).astype(int)
        found = np.abs(image - ImageColor.getrgb(colour)).max(axis=2) < 12
        return np.argwhere(found) if where else int(found.sum())

    return count
