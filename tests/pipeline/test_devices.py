"""Several processes for one run: the same images as in one, networks under DDP, one set of records, one exit code."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pipeline.conftest import TINY
from tests.pipeline.faults import WITH_SPOILT, write_spoilt

BLOCKS = ("stages=[pool,synthesis]", "synthesis.ipc=2", "synthesis.batch_size=4")
"""Ten classes in groups of four, two images of each: six blocks of 4, 4, 2, 4, 4 and 2 images."""
LABELLED = ("stages=[pool,synthesis,labels]", "labels.epochs=3")
ONE_BLOCK = ("methods.classwise.iterations=6", "methods.classwise.augmentations=2", "methods.classwise.real_images=16")
"""A method whose second process has no block, but has to wait for the banks with the first."""
TWO = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.precision=32-true")
SAME_BITS = ("trainer=deterministic", "trainer.accelerator=cpu")
DEALT = ("trainer.strategy=ddp", "trainer.devices=2")
WHOLE = "stages=[pool,synthesis,labels,evaluation,report]"
LEARNING = ("method=[random]", "synthesis.ipc=10", "evaluation.epochs=40", "pool.training.epochs=6", "pool.last=6")
"""Enough training for accuracies that can be compared."""
SPREAD = 8.0
"""Percentage points that training with another rounding, or other BatchNorm batches, may move an accuracy."""


@pytest.fixture
def workspace(finished, tmp_path):
    """A workspace with a trajectory and no images."""
    return finished.copy(tmp_path, without=("images", "labels", "students"))


def empty(workspace, name):
    """An empty workspace beside another one."""
    (workspace.folder / name).mkdir()
    return type(workspace)(workspace.folder / name, workspace.start_process)


@pytest.mark.timeout(600)
def test_one_and_two_processes_write_the_same_images(workspace, finished):
    other = finished.copy(workspace.folder / "other", without=("images", "labels", "students"))
    words = (*BLOCKS, *ONE_BLOCK, "method=[teddy,classwise,random]")
    one = workspace.run(*words)
    two = other.run(*words, *TWO)
    assert workspace.kinds() == {"images": 3, "bank": 2, "trajectory": 1}
    assert other.results() == workspace.results()
    assert len(one.curves("synthesis/")["synthesis/teddy/loss"]) == 12
    # Blocks 0, 2 and 4 are the first process's share of the six, and it is the one that shows its progress.
    assert "synthesis: 36/36 steps (100 %)" in one.err
    assert "synthesis: 18/18 steps (100 %)" in two.err


@pytest.mark.timeout(600)
def test_two_processes_go_through_all_stages(workspace):
    """Teachers and students train under DDP; records, progress and report are the first process's alone."""
    single, double = empty(workspace, "single"), empty(workspace, "double")
    one = single.run(*LEARNING)
    two = double.run(*LEARNING, WHOLE, *TWO)
    assert double.kinds() == single.kinds() == {"images": 1, "labels": 1, "students": 1, "trajectory": 1}
    assert {path.name for path in double.folder.iterdir()} == {"run0", "run0.out", "run0.err", "store"}
    assert (two.folder / "index.html").is_file()
    assert two.out.count("Report: ") == 1
    for stage in ("pool", "labels", "evaluation"):
        assert two.err.count(f"{stage}: 0/") == 1
    assert "2 processes" in (two.folder / "run.json").read_text()
    # 1,800 training images in batches of 64, of which each process takes a half.
    steps = 6 * 29
    assert f"pool: {steps}/{steps} steps (100 %)" in two.err

    (mine,), (theirs,) = one.rows, two.rows
    assert mine["top1"] > 30, "the student has learned something"
    assert theirs["top1"] == pytest.approx(mine["top1"], abs=SPREAD)
    last, other = (
        max(store.results().items(), key=lambda item: item[0].startswith("trajectory"))[1][0]["facts"]["members"][-1]
        for store in (single, double)
    )
    assert last["top1_holdout"] > 60
    assert other["top1_holdout"] == pytest.approx(last["top1_holdout"], abs=SPREAD)
    # One process finds what two have made.
    before = double.manifests()
    again = double.run(*LEARNING)
    assert double.manifests() == before
    assert [row["top1"] for row in again.rows] == [theirs["top1"]]
    assert "pool: 0/" not in again.err


@pytest.mark.timeout(600)
def test_a_deterministic_run_is_the_same_in_two_processes(workspace):
    """Teachers, images, labels and students, from an empty store."""
    single, double = empty(workspace, "single"), empty(workspace, "double")
    single.run(*SAME_BITS)
    double.run(*SAME_BITS, *DEALT)
    assert double.kinds() == {"images": 2, "labels": 2, "students": 2, "trajectory": 1}
    assert double.results() == single.results()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_may_be_killed_and_one_goes_on(workspace):
    workspace, other = empty(workspace, "single"), empty(workspace, "double")
    arguments = (*SAME_BITS, *BLOCKS, *LABELLED, "synthesis.iterations=60", "synthesis.checkpoint_every=5")
    workspace.run(*arguments)
    started = other.start(*arguments, *DEALT)
    while len(list(other.store.glob("images/*/.blocks/*"))) < 2:
        assert started.process.is_alive(), started.err.read_text()
        time.sleep(0.002)
    for pid in (*children(started.process.pid), started.process.pid):
        os.kill(pid, signal.SIGKILL)
    started.wait()
    again = other.run(*arguments)
    assert other.results() == workspace.results()
    assert "synthesis: 0/" not in again.err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_machines_with_a_process_each_write_the_same_images_and_labels(workspace):
    """As ``torchrun`` starts them on two machines, which are this one twice."""
    workspace, other = empty(workspace, "single"), empty(workspace, "double")
    workspace.run(*SAME_BITS, *BLOCKS, *LABELLED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = ("torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d")
    words = (*TINY, *SAME_BITS, *BLOCKS, *LABELLED, DEALT[0], "trainer.devices=1", "trainer.num_nodes=2")
    environment = {**os.environ, "TEDDY_STORE": str(other.store)}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", *torchrun, "--rdzv-endpoint", f"127.0.0.1:{port}", "-m", "teddy", *words],
            cwd=other.folder,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = "".join(one.communicate(timeout=500)[1] for one in running)
    assert [one.returncode for one in running] == [0, 0], said
    assert other.results() == workspace.results()
    assert said.count("synthesis: 0/18 ") == 1, "three of the six blocks each, and one that shows its progress"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_block_that_diverges_in_the_second_process_is_the_first_one_s_sentence(workspace):
    write_spoilt(workspace.folder)
    done = workspace.run(*BLOCKS, *WITH_SPOILT, "method=[spoilt,random]", *TWO, code=1)
    assert "synthesis by Spoilt diverged in block 1, iteration 3 (wild is nan)" in done.sentence
    assert workspace.kinds() == {"images": 1, "trajectory": 1}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sentence_from_two_processes_is_one_sentence(workspace):
    """Teachers that are missing, which the first process finds while the other waits."""
    done = empty(workspace, "bare").start("stages=[synthesis]", *TWO).wait()
    assert done.code != 0
    (sentence,) = [line for line in done.err.splitlines() if line.startswith("teddy: ")]
    assert "stages=[...] leaves out pool" in sentence


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")
def test_a_process_that_is_killed_ends_the_run_and_the_same_command_goes_on(workspace):
    arguments = (*BLOCKS, "synthesis.iterations=400", "synthesis.checkpoint_every=20", *TWO)
    command = workspace.start(*arguments)
    while not any(workspace.store.glob("images/*/.resume-00000.safetensors")):  # of the process that shows its progress
        assert command.process.is_alive(), command.err.read_text()
        time.sleep(0.01)
    workers = children(command.process.pid)
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    killed = time.monotonic()
    done = command.wait()
    assert time.monotonic() - killed < 60
    assert done.code not in (0, 2)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers), "the other process has ended as well"
    again = workspace.run(*arguments)
    assert workspace.kinds() == {"images": 2, "trajectory": 1}
    assert "synthesis: 0/" not in again.err


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
