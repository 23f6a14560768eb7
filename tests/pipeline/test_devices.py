"""Invariant 3: the number of devices does not change the result; and what a process of several says reaches the person."""

import os
import signal
import time
from pathlib import Path

import pytest

BLOCKS = ("stages=[pool,synthesis]", "synthesis.ipc=2", "synthesis.batch_size=4")
"""Ten classes in groups of four, two images of each: six blocks of 4, 4, 2, 4, 4 and 2 images."""


@pytest.fixture
def desk(finished, tmp_path):
    """A desk with a trajectory and no images."""
    return finished.copy(tmp_path, without=("images", "labels", "students"))


@pytest.mark.timeout(600)
def test_one_and_two_processes_write_the_same(desk, finished):
    other = finished.copy(desk.folder / "other", without=("images", "labels", "students"))
    one = desk.run(*BLOCKS)
    two = other.run(*BLOCKS, "trainer.devices=2")
    assert desk.kinds() == {"images": 2, "trajectory": 1}
    assert other.results() == desk.results()
    assert (one.folder / "curves" / "synthesis.csv").is_file()
    # Blocks 0, 2 and 4 are the first process's share of the six, and it is the one that shows its progress.
    assert "synthesis: 36/36 steps (100 %)" in one.err
    assert "synthesis: 18/18 steps (100 %)" in two.err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_may_be_killed_and_one_goes_on(desk, finished):
    other = finished.copy(desk.folder / "other", without=("images", "labels", "students"))
    words = (*BLOCKS, "synthesis.iterations=60", "synthesis.checkpoint_every=5")
    desk.run(*words)
    started = other.start(*words, "trainer.devices=2")
    started.stop_when(lambda: len(list(other.store.glob("images/*/.blocks/*"))) >= 2)
    again = other.run(*words)
    assert other.results() == desk.results()
    assert "synthesis: 0/" not in again.err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sentence_from_one_of_two_processes_is_one_sentence(desk):
    """A snapshot with damaged weights, which only the processes find."""
    for snapshot in desk.store.glob("trajectory/*/*.safetensors"):
        snapshot.write_bytes(bytes(snapshot.stat().st_size))
    done = desk.run(*BLOCKS, "trainer.devices=2", code=2)
    assert "is not a whole safetensors file" in done.sentence
    assert f"delete it with its folder {snapshot.parent}" in done.sentence


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")
def test_a_process_that_is_killed_ends_the_run_with_one_sentence(desk, finished):
    command = desk.start(*BLOCKS, "trainer.devices=2", "synthesis.iterations=2000")
    while not any(desk.store.glob("images/*/frames/*")):
        assert command.process.is_alive()
        time.sleep(0.01)
    # The processes of synthesis are those of its children that were started anew and not forked.
    children = Path(f"/proc/{command.process.pid}/task/{command.process.pid}/children").read_text().split()
    workers = [int(pid) for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    done = command.wait()
    assert done.code == 1
    assert "SIGKILL" in done.sentence
    assert "run the same command again" in done.sentence
