"""Run folders as the pipeline writes them, made by hand."""

import csv
import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageColor

from teddy.report.comparison import compare
from teddy.report.runs import read_runs
from teddy.report.tables import text_table
from teddy.runtime.resume import save_tensors

TITLES = {"ours": "Ours", "other": "the other method", "real": "random real images"}
FACTS = dict(dataset="toy", ipc=10, pool="prior 1-6 (6)", labels="stored", protocol="paper", student="convnet3")


@pytest.fixture(scope="session")
def students():
    """Lines of a results log, one per accuracy; equal ``same`` gives equal fingerprints, none gives no fingerprints."""

    def make(method, top1, same="", **changes):
        known = dict(title=TITLES.get(method, method), baseline=method == "real")
        return [
            dict(method=method, seed=seed, top1=value, **known)
            | dict(fingerprints={"student": f"{method}-{same}-{seed}"} if same else {})
            | FACTS
            | changes
            for seed, value in enumerate(top1)
        ]

    return make


@pytest.fixture(scope="session")
def make_run():
    """Writes a run folder; ``record`` has further keys of run.json."""

    def make(folder, rows, settings=None, overrides=None, record=None):
        folder.mkdir(parents=True)
        (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = {"name": "toy", "stages": ["evaluation", "report"], **(settings or {})}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        methods = {row["method"]: {"title": row["title"]} for row in rows}
        known = {"name": config["name"], "overrides": overrides or {}, "methods": methods}
        (folder / "run.json").write_text(json.dumps(known | (record or {})))
        (folder / "results.md").write_text("its own report")
        return folder

    return make


@pytest.fixture(scope="session")
def make_images():
    """A folder of images whose level of red tells the class, of green the position, and of blue the folder."""

    def make(folder, blue, classes=("ant", "bee", "cat"), count=3, size=8):
        for label, name in enumerate(classes):
            (folder / name).mkdir(parents=True)
            for index in range(count):
                colour = 20 + 10 * label, 20 + 10 * index, blue
                Image.new("RGB", (size, size), colour).save(folder / name / f"{index:04}.png")
        return folder

    return make


@pytest.fixture(scope="session")
def make_terms():
    def make(path, blocks=2, **terms):
        terms = terms or {"cross_entropy": 3.0, "bn_statistics": 50.0}
        with path.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["block", "iteration", *terms])
            for block in range(blocks):
                for iteration in range(0, 100, 10):
                    values = (start / (1 + iteration) * (1 + block) for start in terms.values())
                    writer.writerow([block, iteration, *values])
        return path

    return make


@pytest.fixture(scope="session")
def make_snapshots():
    """A folder of snapshots of three images, which grow darker."""

    def make(folder, iterations=(0, 50, 100)):
        folder.mkdir(parents=True)
        for number, iteration in enumerate(iterations):
            images = torch.full((3, 1, 8, 8), 200 - 40 * number, dtype=torch.uint8)
            images += torch.tensor([0, 10, 20], dtype=torch.uint8).view(3, 1, 1, 1)
            notes = {"iteration": iteration, "classes": [0, 1, 2]}
            save_tensors(folder / f"{iteration:06}.safetensors", {"images": images}, notes)
        return folder

    return make


@pytest.fixture(scope="session")
def make_full_run(make_run, make_images, make_terms, make_snapshots, students):
    """Writes a run of three methods with everything that a run may hold."""

    def make(place):
        folder = place / "run"
        tops = {"ours": [60.0, 61.0, 62.0], "other": [59.0, 62.0, 62.0], "real": [50.0, 51.0, 52.0]}
        rows = [
            row | {"seconds": 30.0, "peak_memory_mb": 900.0}
            for labels, protocol in (("stored", "paper"), ("hard", "dm"))
            for name, top1 in tops.items()
            for row in students(
                name, [value - 5 * (labels == "hard") for value in top1], labels=labels, protocol=protocol
            )
        ]
        make_run(folder, rows, {"note": "a < b", "synthesis": {"ipc": 10}})
        methods = {}
        for number, name in enumerate(tops):
            images = make_images(place / "png" / name, 10 + 90 * number)
            methods[name] = {"title": TITLES[name], "images": str(images), "terms": None, "snapshots": None}
        methods["ours"]["terms"] = make_terms(folder / "terms_ours.csv").name
        methods["ours"]["snapshots"] = str(make_snapshots(place / "snapshots"))
        record = {
            "name": "toy <IPC 10>",
            "command": "python -m teddy +experiment=toy 'synthesis.ipc=10'",
            "overrides": {"experiment": "toy", "synthesis.ipc": 10},
            "methods": methods,
            "class_names": ["Ant", "Bee", "Cat"],
            "pool": [dict(epoch=e, top1_holdout=10.0 * e, chosen=e > 1) for e in range(1, 4)],
            "paper": {"toy/ours/convnet3/paper/ipc10": [63.5, 0.2], "toy/real/convnet3/paper/ipc50": [51.0]},
            "facts": {
                "hardware": "1 GPU",
                "seconds": {"pool": 65, "synthesis": 3},
                "label_storage_mb": 1.25,
                "fingerprints": {"pool": "f00d"},
            },
        }
        (folder / "run.json").write_text(json.dumps(record))
        return folder

    return make


@pytest.fixture
def full_run(make_full_run, tmp_path):
    return make_full_run(tmp_path)


@pytest.fixture
def teachers_sweep(tmp_path, make_run, students):
    """Three jobs with one to three teachers per block; the students of real images are the same in all."""
    top1 = {1: [50.0, 51.0, 52.0], 2: [53.0, 54.0, 55.0], 3: [51.0, 53.0, 55.0]}
    folder = tmp_path / "sweeps" / "toy" / "now"
    for job, (count, values) in enumerate(top1.items()):
        cost = dict(pool_seconds=60.0, synthesis_seconds=30.0 * count, synthesis_peak_memory_mb=1000.0 * count)
        rows = students("ours", values, f"tpb{count}", cost=cost) + students("real", [48.0, 49.0, 50.0], "any")
        settings = {"synthesis": {"teachers_per_block": count, "ipc": 10, "lr": 0.1 * count}}
        overrides = {"experiment": "toy", "synthesis.teachers_per_block": str(count)}
        make_run(folder / str(job), rows, settings, overrides)
    return folder


@pytest.fixture
def pixels_of():
    """How many pixels of a picture have about this colour, or where they are, as (row, column)."""

    def count(path, colour, where=False):
        image = np.asarray(Image.open(path).convert("RGB")).astype(int)
        found = np.abs(image - ImageColor.getrgb(colour)).max(axis=2) < 12
        return np.argwhere(found) if where else int(found.sum())

    return count


@pytest.fixture
def table_of(tmp_path, make_run):
    """The table as text of one run with these rows of a results log."""
    count = iter(range(100))

    def make(rows, **record):
        folder = make_run(tmp_path / f"one{next(count)}", rows, record=record)
        return text_table(compare(read_runs([folder]))).to_dict("records")

    return make


@pytest.fixture
def sweep_of(tmp_path, make_run, students):
    """A sweep over one key with our accuracies by value; ``more`` gives further rows, ``settings`` further settings by job."""

    def make(key, top1, more=lambda job: [], settings=lambda job: {}, record=lambda job: {}):
        group, _, name = key.partition(".")
        for job, (value, values) in enumerate(top1.items()):
            own = {group: {name: value}} if name else {}
            rows = students("ours", values, f"{job}") + more(job)
            overrides = {key: "null" if value is None else str(value)}
            make_run(tmp_path / "sweep" / str(job), rows, {**own, **settings(job)}, overrides, record(job))
        return compare(read_runs([tmp_path / "sweep"]))

    return make
