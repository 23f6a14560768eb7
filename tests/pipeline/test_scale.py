"""Time and memory grow with the number of classes and files, not with their square: whole runs of three sizes."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import SHORT
from tests.pipeline.conftest import SRC

RUN = (
    "+experiment=quickstart",
    *SHORT,
    "dataset=imagefolder",
    "dataset.name=many",
    *("pool.first=1", "pool.last=1", "pool.every=1", "pool.training.epochs=1", "pool.training.batch_size=256"),
    *("synthesis.ipc=2", "synthesis.iterations=1", "synthesis.teachers_per_block=1", "synthesis.snapshot_every=0"),
    *("synthesis.batch_size=500", "evaluation.epochs=1", "evaluation.batch_size=256"),
)
STORED = ("labels=stored", "labels.top_k=5", "labels.temperature=20")
MEMORY = 8 << 30
"""Limit of the address space in bytes, of which the libraries take a half before anything is read."""


def linked_folder(root, classes, per_class):
    """An image folder of 8 x 8 pixels whose files are links to fifty."""
    generator, source = np.random.default_rng(0), root / "source"
    source.mkdir(parents=True)
    for number in range(50):
        Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(source / f"{number}.png")
    count = 0
    for split, images in (("train", per_class), ("test", 1)):
        for label in range(classes):
            folder = root / split / f"c{label:05d}"
            folder.mkdir(parents=True)
            for index in range(images):
                os.link(source / f"{count % 50}.png", folder / f"{index:06d}.png")
                count += 1
    return root


def measured(folder, root, *words):
    """CPU seconds and peak memory in MB of a command, report included."""
    command = [sys.executable, "-m", "teddy", *RUN, f"dataset.root={root}", "hydra.run.dir=run", *words]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "TEDDY_STORE": str(folder / "store"), "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([(1250, 4), (2500, 4), (5000, 4)], ("method=[teddy,random]", *STORED)),
        ([(50, 1000), (50, 2000), (50, 4000)], ("method=[random]", *STORED)),
    ],
    ids=["5,000 classes at IPC 2", "200,000 files"],
)
def test_four_times_as_much_takes_four_times_as_long_at_most(tmp_path, sizes, words):
    found = []
    for classes, per_class in sizes:
        folder = tmp_path / f"{classes}-{per_class}"
        root = linked_folder(folder / "data", classes, per_class)
        found.append(measured(folder, root, *words))
        print(f"{classes} classes, {classes * per_class} files: {found[-1][0]:.1f} s of CPU, {found[-1][1]:.0f} MB")
    (small, low), _, (large, high) = found
    assert large < 4 * small
    assert high < 2 * low
