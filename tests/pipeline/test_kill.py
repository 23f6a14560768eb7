"""Invariant 2: kill it anywhere, run it again, and the result is the same bit for bit.

One run is never interrupted. The others start where some stage of it begins, are killed in that stage as soon as there is
something on the disk to go on from, and are started again by the same command.
"""

import contextlib
import os
import re
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image

from teddy.runtime.resume import load_point, save_point
from tests.pipeline.conftest import NO_REPORT, TINY
from tests.pipeline.faults import EVERY_EPOCH, SMALL, torment

LONG = (
    "pool.training.epochs=4",
    "synthesis.iterations=40",
    "synthesis.checkpoint_every=2",
    "synthesis.batch_size=5",
    "labels.epochs=50",
    "evaluation.epochs=20",
    "evaluation.seeds=3",
)
"""Long enough for each stage to be killed in its midst; synthesis has two blocks, and a method three students."""


@dataclass(frozen=True)
class Stage:
    """A stage to be killed in.

    Attributes:
        gone: kinds of work that are not there when it begins.
        sign: a file that appears in its midst.
        shown: its name in the display of progress.
    """

    gone: tuple[str, ...]
    sign: str
    shown: str


STAGES = {
    "pool": Stage(("trajectory", "images", "labels", "students"), "trajectory/*/.resume.safetensors", "pool"),
    "synthesis": Stage(("images", "labels", "students"), "images/*/.resume-00000.safetensors", "synthesis"),
    "synthesis, second block": Stage(
        ("images", "labels", "students"), "images/*/.resume-00001.safetensors", "synthesis"
    ),
    "labels": Stage(("labels", "students"), "labels/*/progress.json", "labels"),
    "evaluation": Stage(("students",), "students/*/.resume.safetensors", "evaluation"),
}


@pytest.fixture(scope="module")
def whole(finished, tmp_path_factory):
    """A workspace in which the long command ran without a break, and its results."""
    workspace = finished.copy(tmp_path_factory.mktemp("whole"), without=("trajectory", "images", "labels", "students"))
    done = workspace.run(*LONG, settings=EVERY_EPOCH)
    return workspace, done, workspace.results()


def made(results: dict, stage: Stage) -> dict:
    """Results up to a stage; what follows is made from their bytes."""
    return {path: found for path, found in results.items() if path.split("/")[0] not in stage.gone[1:]}


def progress(err: str, stage: str) -> list[int]:
    """The first count of each of a stage's displays: units that earlier runs had done."""
    return [int(first) for first in re.findall(rf"^{stage}: (\d+)/\d+ \w+ \(\d+ %\)$", err, re.MULTILINE)]


@pytest.mark.parametrize("name", STAGES)
def test_killed_in_a_stage(name, whole, finished, tmp_path):
    stage, (uncut, done, expected) = STAGES[name], whole
    workspace = type(finished)(uncut, done).copy(tmp_path, without=stage.gone)
    kept = workspace.manifests()
    killed = workspace.start(*LONG, settings=EVERY_EPOCH).stop_when(lambda: any(workspace.store.glob(stage.sign)))
    assert killed.code == -signal.SIGKILL
    left = [path for path in workspace.store.glob(stage.sign) if not (path.parent / "manifest.json").exists()]
    assert left, "the kill came when the stage was over"
    again = workspace.run(*LONG, f"stages=[{stage.shown}]", settings=EVERY_EPOCH)
    assert workspace.results() == made(expected, stage), "every PNG, logit, snapshot and accuracy, byte for byte"
    assert kept.items() <= workspace.manifests().items()
    if name == "evaluation":  # one display for all students, so their curves tell
        assert [row["top1"] for row in again.rows] == [row["top1"] for row in done.rows]
        curve = again.curves("evaluation/teddy/paper/convnet2_w8/0/")["evaluation/teddy/paper/convnet2_w8/0/loss"]
        assert 0 < len(curve) < 20, "of twenty epochs of one step, those that were left"
    else:
        assert max(progress(again.err, stage.shown)) > 0, f"it started over:\n{again.err}"
    assert not [path for path in workspace.store.rglob(".*") if path.name != ".lock"], "points to resume from are gone"


def test_killed_while_compressed_labels_are_stored(finished, tmp_path):
    arguments = ("stages=[pool,synthesis,labels]", "labels.epochs=50", "labels.top_k=3")
    uncut, workspace = (finished.copy(tmp_path / name, without=("labels", "students")) for name in ("uncut", "cut"))
    uncut.run(*arguments)
    started = workspace.start(*arguments, settings=EVERY_EPOCH)
    killed = started.stop_when(lambda: any(workspace.store.glob(STAGES["labels"].sign)))
    assert killed.code == -signal.SIGKILL
    assert workspace.kinds().get("labels", 0) < uncut.kinds()["labels"], "the kill came when the stage was over"
    assert max(progress(workspace.run(*arguments).err, "labels")) > 0
    assert workspace.results() == uncut.results()


def test_twenty_kills_at_seeded_moments_leave_no_trace(finished, tmp_path):
    """The record in ``experiments/faults`` has many more of them, and another seed."""
    (tmp_path / "uncut").mkdir()
    uncut = type(finished.workspace)(tmp_path / "uncut", finished.workspace.start_process)
    done = uncut.run(*SMALL, settings=EVERY_EPOCH)
    base, rounds = (*TINY, NO_REPORT), []
    for kills, how in ((14, signal.SIGKILL), (6, signal.SIGTERM)):
        rounds += torment((done, uncut), tmp_path, base, kills, how, seed=1)
    assert len(rounds) == 20
    assert all(one.equal for one in rounds), rounds
    assert {one.stage for one in rounds} > {"synthesis", "evaluation"}
    assert len({one.method for one in rounds}) > 2


PLUGIN = '''
"""A method with inner state: pixels follow a random walk that remembers its velocity."""

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from teddy.runtime import seeding
from teddy.synthesis.optimized import OptimizedMethod, State


@dataclass
class Walk(State):
    velocity: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class RandomWalk(OptimizedMethod):
    step_size: float

    def setup(self, state):
        return Walk(**vars(state), velocity=torch.zeros_like(state.pixels))

    def optimizer(self, state):
        return torch.optim.SGD([state.pixels], lr=self.step_size)

    def step(self, state, iteration):
        generator = seeding.generator(state.seed, "walk", state.blocks[0].index, iteration)
        state.velocity.mul_(0.9).add_(torch.randn(state.pixels.shape, generator=generator))
        state.pixels.grad = state.velocity.clone()
        return {"speed": state.velocity.norm()}

    def tensors(self, state):
        return {"velocity": state.velocity}
'''
PLUGIN_YAML = """
# @package methods.walk
_target_: walking.RandomWalk
ipc: ${synthesis.ipc}
iterations: ${synthesis.iterations}
batch_size: ${synthesis.batch_size}
step_size: 0.01
"""
WALK = ("--config-dir", "own", "--allow", "walking", "method=[walk]", "stages=[pool,synthesis]")


def with_plugin(workspace):
    """A workspace whose folder holds a package with a method, and the method's YAML."""
    (workspace.folder / "own" / "method").mkdir(parents=True)
    (workspace.folder / "own" / "method" / "walk.yaml").write_text(PLUGIN_YAML.lstrip())
    (workspace.folder / "walking.py").write_text(PLUGIN)
    return workspace


def test_a_method_with_inner_state_is_killed(finished, tmp_path):
    """A method of the user's own, of which a killed run must find more again than pixels and optimizer."""
    arguments = (*WALK, *LONG)
    uncut, workspace, forgetful = (
        with_plugin(finished.copy(tmp_path / name, without=("images", "labels", "students")))
        for name in ("uncut", "cut", "forgetful")
    )
    uncut.run(*arguments)
    assert uncut.kinds()["images"] == 1
    started = workspace.start(*arguments)
    killed = started.stop_when(lambda: any(workspace.store.glob(STAGES["synthesis"].sign)))
    assert killed.code == -signal.SIGKILL
    (point,) = workspace.store.glob("images/*/.resume-0000?.safetensors")
    shutil.copytree(point.parent, forgetful.store / "images" / point.parent.name)
    assert max(progress(workspace.run(*arguments).err, "synthesis")) > 0
    assert workspace.results() == uncut.results()

    # Had the velocity been forgotten, the images would be others.
    (point,) = forgetful.store.glob("images/*/.resume-0000?.safetensors")
    tensors, notes = load_point(point)
    assert tensors["method.velocity"].abs().max() > 0
    save_point(point, tensors | {"method.velocity": torch.zeros_like(tensors["method.velocity"])}, notes)
    forgetful.run(*arguments)
    assert forgetful.results().keys() == uncut.results().keys()
    assert forgetful.results() != uncut.results()


def test_students_killed_in_turn_and_wanted_alone(whole, finished, tmp_path):
    """Students that were cut off resume in whatever order and company they are asked for."""
    uncut, done, expected = whole
    workspace = type(finished)(uncut, done).copy(tmp_path, without=("students",))

    def points():
        times = {}
        for path in workspace.store.glob("students/*/.resume.safetensors"):
            with contextlib.suppress(FileNotFoundError):  # a student that was finished just now
                times[path] = path.stat().st_mtime_ns
        return times

    for seed in (0, 1):
        before = points()
        workspace.start(*LONG, f"evaluation.seeds=[{seed}]", settings=EVERY_EPOCH).stop_when(
            lambda before=before: points().items() - before.items()
        )
    assert len(points()) == 2, "the kill came when the student was finished"
    min(points()).unlink()  # this one starts over
    alone = workspace.run(*LONG, "evaluation.seeds=[1]", settings=EVERY_EPOCH)
    again = workspace.run(*LONG, settings=EVERY_EPOCH)
    assert workspace.results() == expected
    assert [row["top1"] for row in again.rows] == [row["top1"] for row in done.rows]
    assert [row["seed"] for row in again.rows] == [0, 1, 2] * 2
    assert [row["top1"] for row in alone.rows] == [row["top1"] for row in done.rows if row["seed"] == 1]


@pytest.mark.slow
def test_killed_again_and_again_and_never_where_it_was_before(whole, finished, tmp_path):
    """Every stage is cut off once in one and the same store."""
    uncut, done, expected = whole
    workspace = type(finished)(uncut, done).copy(tmp_path, without=("trajectory", "images", "labels", "students"))
    for stage in STAGES.values():
        workspace.start(*LONG, settings=EVERY_EPOCH).stop_when(
            lambda: any(workspace.store.glob(stage.sign))  # noqa: B023
        )
    workspace.run(*LONG, settings=EVERY_EPOCH)
    assert workspace.results() == expected


@pytest.mark.parametrize("name", ["pool", "synthesis", "labels"])  # a student leaves no file but its manifest
def test_cut_off_when_all_is_computed_and_the_files_are_being_counted(name, whole, finished, tmp_path):
    """The very end of a stage, when its last point to resume from must still be there."""
    stage, (uncut, done, expected) = STAGES[name], whole
    workspace = type(finished)(uncut, done).copy(tmp_path, without=stage.gone)
    # sys.exit in place of what hashes a finished file.
    workspace.run(*LONG, settings={**EVERY_EPOCH, "teddy.artifacts.store.checksum": sys.exit}, code=130)
    again = workspace.run(*LONG, f"stages=[{name}]", settings=EVERY_EPOCH)
    assert workspace.results() == made(expected, stage)
    curves = again.folder / "curves" / "metrics.csv"  # absent where nothing at all is logged
    logged = curves.read_text() if curves.exists() else ""
    assert "pool/loss" not in logged
    assert "synthesis/teddy/loss" not in logged, "nothing is optimised again"
    if name == "labels":
        assert progress(again.err, "labels")[0] == 500


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("pool", signal.SIGTERM),
        ("synthesis", signal.SIGINT),
        ("labels", signal.SIGINT),
        ("labels", signal.SIGTERM),
        ("evaluation", signal.SIGTERM),
    ],
)
def test_told_to_stop(name, how, whole, finished, tmp_path):
    """Ctrl-C, and the signal that a scheduler sends before it kills: no success and no traceback."""
    stage, (uncut, done, _) = STAGES[name], whole
    workspace = type(finished)(uncut, done).copy(tmp_path, without=stage.gone)
    started = workspace.start(*LONG, settings=EVERY_EPOCH)
    stopped = started.stop_when(lambda: any(workspace.store.glob(stage.sign)), how)
    assert stopped.sentence == "teddy: Interrupted; run the same command again to go on."
    assert stopped.code == 128 + how
    assert "Traceback" not in stopped.err
    if name == "evaluation":
        assert any(stopped.curves("evaluation/").values()), "what was logged before is written"


def test_told_to_stop_together_with_its_loader_processes(finished, tmp_path):
    """As a scheduler does, which signals all processes of a job; torch would report the loaders as crashed."""
    workspace = type(finished.workspace)(tmp_path, finished.workspace.start_process)
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            folder = tmp_path / "pets" / split / label
            folder.mkdir(parents=True)
            for index in range(30):
                Image.new("L", (8, 8), 10 + 5 * index).save(folder / f"{index}.png")
    words = ("dataset=imagefolder", f"dataset.root={tmp_path / 'pets'}", "dataset.name=pets", "trainer.workers=2")
    started = workspace.start(*words, "pool.training.epochs=2000", "pool.training.batch_size=4")
    children = Path(f"/proc/{started.process.pid}/task/{started.process.pid}/children")

    def loaders_are_stopped():
        if not any(workspace.store.glob("trajectory/*/epoch-0001.safetensors")):
            return False
        for child in children.read_text().split():
            os.kill(int(child), signal.SIGTERM)
        time.sleep(0.5)  # time enough to notice that loaders are gone
        return True

    stopped = started.stop_when(loaders_are_stopped, signal.SIGTERM)
    assert (stopped.code, stopped.sentence) == (143, "teddy: Interrupted; run the same command again to go on.")
