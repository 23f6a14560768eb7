"""Invariant 2: kill it anywhere, run it again, and the result is the same bit for bit.

One run is never interrupted. The others start where some stage of it begins, are killed in that stage as soon as there is
something on the disk to go on from, and are typed again.
"""

import contextlib
import re
import signal
import sys
from dataclasses import dataclass

import pytest

LONG = (
    "pool.training.epochs=4",
    "synthesis.iterations=40",
    "synthesis.checkpoint_every=2",
    "synthesis.batch_size=5",
    "labels.epochs=50",
    "evaluation.epochs=20",
    "evaluation.seeds=3",
)
"""Long enough for each stage to be killed in its midst; synthesis has two blocks, and three students train side by side."""
NO_PATIENCE = {
    f"teddy.{stage}.RESUME_SECONDS": 0.0 for stage in ("pool.trajectory", "labels.stage", "evaluation.stage")
}
"""Teachers, labels and students note where they are after each epoch, not only after some seconds."""


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
    """A desk where the long command ran without a break, and its results."""
    desk = finished.copy(tmp_path_factory.mktemp("whole"), without=("trajectory", "images", "labels", "students"))
    done = desk.run(*LONG, settings=NO_PATIENCE)
    return desk, done, desk.results()


def progress(err: str, stage: str) -> list[int]:
    """Where each of a stage's displays began: units that earlier runs had done."""
    return [int(first) for first in re.findall(rf"^{stage}: (\d+)/\d+ \w+ \(\d+ %\)$", err, re.MULTILINE)]


@pytest.mark.parametrize("name", STAGES)
def test_killed_in_a_stage(name, whole, finished, tmp_path):
    stage, (uncut, done, expected) = STAGES[name], whole
    desk = type(finished)(uncut, done).copy(tmp_path, without=stage.gone)
    kept = desk.manifests()
    killed = desk.start(*LONG, settings=NO_PATIENCE).stop_when(lambda: any(desk.store.glob(stage.sign)))
    assert killed.code == -signal.SIGKILL
    left = [path for path in desk.store.glob(stage.sign) if not (path.parent / "manifest.json").exists()]
    assert left, "the kill came when the stage was over"
    again = desk.run(*LONG, settings=NO_PATIENCE)
    assert desk.results() == expected, "every PNG, logit, snapshot and accuracy, byte for byte"
    assert [row["top1"] for row in again.rows] == [row["top1"] for row in done.rows]
    assert kept.items() <= desk.manifests().items()
    if name == "evaluation":  # one display for all students, so their curves tell
        curve = again.folder / "curves" / "evaluation-teddy-paper-convnet2_w8-0.csv"
        assert 1 < len(curve.read_text().splitlines()) < 21, (
            "a line of names, and one for each of the epochs that were left"
        )
    else:
        assert max(progress(again.err, stage.shown)) > 0, f"it began anew:\n{again.err}"
    assert not [path for path in desk.store.rglob(".*") if path.name != ".lock"], "notes for going on are gone"


def test_killed_while_a_part_of_the_labels_is_stored(finished, tmp_path):
    words = ("stages=[pool,synthesis,labels]", "labels.epochs=50", "labels.top_k=3")
    uncut, desk = (finished.copy(tmp_path / name, without=("labels", "students")) for name in ("uncut", "cut"))
    uncut.run(*words)
    killed = desk.start(*words, settings=NO_PATIENCE).stop_when(lambda: any(desk.store.glob(STAGES["labels"].sign)))
    assert killed.code == -signal.SIGKILL
    assert desk.kinds().get("labels", 0) < uncut.kinds()["labels"], "the kill came when the stage was over"
    assert max(progress(desk.run(*words).err, "labels")) > 0
    assert desk.results() == uncut.results()


def test_students_killed_side_by_side_and_wanted_one_by_one(whole, finished, tmp_path):
    """Those of a company that were saved later wait for those that go on from earlier; alone they come out the same."""
    uncut, done, expected = whole
    desk = type(finished)(uncut, done).copy(tmp_path, without=("students",))

    def points():
        times = {}
        for path in desk.store.glob("students/*/.resume.safetensors"):
            with contextlib.suppress(FileNotFoundError):  # a student that was finished just now
                times[path] = path.stat().st_mtime_ns
        return times

    for _ in range(2):
        before = points()
        desk.start(*LONG, settings=NO_PATIENCE).stop_when(lambda before=before: points().items() - before.items())
    assert points(), "the kill came when the stage was over"
    min(points()).unlink()  # this one begins anew
    alone = desk.run(*LONG, "evaluation.together=1", "evaluation.seeds=[1]", settings=NO_PATIENCE)
    again = desk.run(*LONG, settings=NO_PATIENCE)
    assert desk.results() == expected
    assert [row["top1"] for row in again.rows] == [row["top1"] for row in done.rows]
    assert [row["seed"] for row in again.rows] == [0, 1, 2] * 2
    assert [row["top1"] for row in alone.rows] == [row["top1"] for row in done.rows if row["seed"] == 1]


@pytest.mark.slow
def test_killed_again_and_again_and_never_where_it_was_before(whole, finished, tmp_path):
    """Every stage is cut off once in one and the same store."""
    uncut, done, expected = whole
    desk = type(finished)(uncut, done).copy(tmp_path, without=("trajectory", "images", "labels", "students"))
    for stage in STAGES.values():
        desk.start(*LONG, settings=NO_PATIENCE).stop_when(lambda: any(desk.store.glob(stage.sign)))  # noqa: B023
    desk.run(*LONG, settings=NO_PATIENCE)
    assert desk.results() == expected


@pytest.mark.parametrize("name", ["pool", "synthesis", "labels"])  # a student leaves no file but its manifest
def test_cut_off_when_all_is_computed_and_the_files_are_being_counted(name, whole, finished, tmp_path):
    """The very end of a stage, when its last note for going on must still be there."""
    stage, (uncut, done, expected) = STAGES[name], whole
    desk = type(finished)(uncut, done).copy(tmp_path, without=stage.gone)
    # sys.exit in place of what hashes a finished file.
    desk.run(*LONG, settings={**NO_PATIENCE, "teddy.artifacts.store.file_digest": sys.exit}, code=130)
    again = desk.run(*LONG, settings=NO_PATIENCE)
    assert desk.results() == expected
    curves = {path.name for path in (again.folder / "curves").iterdir()}
    assert f"{name}.csv" not in curves, "nothing is optimised again"
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
    """Ctrl-C, and what a scheduler sends before it kills: no success and no traceback."""
    stage, (uncut, done, _) = STAGES[name], whole
    desk = type(finished)(uncut, done).copy(tmp_path, without=stage.gone)
    stopped = desk.start(*LONG, settings=NO_PATIENCE).stop_when(lambda: any(desk.store.glob(stage.sign)), how)
    if name == "labels" and how == signal.SIGTERM:  # no Lightning there, so the system's own way to end a process
        assert stopped.code == -signal.SIGTERM
    else:
        assert (stopped.code, stopped.sentence) == (130, "teddy: Interrupted; run the same command again to go on.")
    assert "Traceback" not in stopped.err
