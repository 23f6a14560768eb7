"""What cannot be done ends with one sentence, an exit code that a script can use, and everything else as it was."""

import errno
import json
import os
import subprocess

import pytest
from PIL import Image

from tests.pipeline.faults import WITH_SPOILT, refuse_writes, rows_of, write_spoilt


@pytest.fixture
def workspace(finished, tmp_path):
    """A workspace in which the tiny experiment has been run."""
    return finished.copy(tmp_path)


# --- stages ---


def test_a_run_ends_with_its_last_stage(finished, tmp_path):
    workspace = type(finished.workspace)(tmp_path, finished.workspace.start_process)
    done = workspace.run("stages=[pool]")
    assert workspace.kinds() == {"trajectory": 1}
    assert "synthesis" not in done.err
    assert not (done.folder / "results.jsonl").exists()
    assert json.loads((done.folder / "run.json").read_text())["pool"][-1]["epoch"] == 3
    # The next command goes on from there.
    done = workspace.run("stages=[synthesis]")
    assert workspace.kinds() == {"images": 2, "trajectory": 1}
    assert "pool: 0/" not in done.err
    workspace.run()
    assert workspace.results() == finished.workspace.results()


@pytest.mark.parametrize(
    ("stages", "without", "missing"),
    [
        ("evaluation", ("trajectory", "images", "labels", "students"), "pool"),
        ("evaluation", ("images", "labels", "students"), "synthesis"),
        ("evaluation", ("labels", "students"), "labels"),
        ("report", ("students",), "evaluation"),
        ("pool,evaluation", ("images",), "synthesis"),
    ],
)
def test_a_stage_whose_input_is_not_there_names_the_stage_that_makes_it(finished, tmp_path, stages, without, missing):
    workspace = finished.copy(tmp_path, without=without)
    before = workspace.manifests()
    done = workspace.run(f"stages=[{stages}]", code=2)
    assert f"leaves out {missing}," in done.sentence
    assert f"add {missing} to stages" in done.sentence
    assert str(workspace.store) in done.sentence
    assert workspace.manifests() == before


def test_a_report_alone_comes_from_finished_work(workspace):
    before = workspace.manifests()
    done = workspace.run("stages=[report]")
    assert (done.folder / "index.html").is_file()
    assert workspace.manifests() == before


@pytest.mark.parametrize(("error", "share"), [(errno.ENOSPC, 16), (errno.EROFS, 25)], ids=["full", "read-only"])
def test_a_write_that_fails_ends_the_run_and_the_next_one_goes_on(finished, tmp_path, error, share):
    """Some of all writes, each refused once; ``scripts/faults.py`` does it with every one."""
    workspace = type(finished.workspace)(tmp_path, finished.workspace.start_process)
    names, done = refuse_writes(workspace, error, share)
    assert len(names) > 3
    assert workspace.results() == finished.workspace.results()
    assert rows_of(done) == rows_of(finished.done)


# --- numbers that are not finite ---


def test_what_diverges_is_named_and_all_that_does_not_need_it_is_done(finished, tmp_path):
    """A teacher, a block and a student, each in a run with others."""
    workspace = finished.copy(tmp_path)
    write_spoilt(tmp_path)
    words = (
        *(*WITH_SPOILT, "method=[mtt,spoilt,random]"),
        *("methods.mtt.pool.count=1", "methods.mtt.pool.epochs=4", "methods.mtt.max_start_epoch=1"),
        *("methods.mtt.pool.lr=1e7", "methods.mtt.pool.network=convnet2_w4_none"),
        *("evaluation.students=[convnet2_w4_none]", "evaluation.protocol=[paper,dm]", "evaluation.protocols.dm.lr=1e7"),
        "stages=[pool,synthesis,labels,evaluation,report]",
    )
    for _ in range(2):
        done = workspace.run(*words, code=1)
        kinds = workspace.kinds()
        assert done.sentence.startswith("teddy: teacher training diverged in epoch 1 (iteration ")
        assert (
            "; synthesis by Spoilt diverged in block 1, iteration 3 (wild is nan); lower its learning" in done.sentence
        )
        assert "; student convnet2_w4_none of random (protocol dm, seed 0) diverged (epoch " in done.sentence
        assert done.sentence.endswith("; everything else is done.")
        assert done.sentence.count("diverged") == 3
        assert [(row["method"], row["protocol"]) for row in done.rows] == [("random", "paper")]
        assert (done.folder / "index.html").is_file()
        assert workspace.kinds() == kinds


# --- data ---


def test_a_class_with_a_single_image_leaves_nothing_to_choose_by(workspace):
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            folder = workspace.folder / "pets" / split / label
            folder.mkdir(parents=True)
            Image.new("L", (28, 28), 40 * len(label)).save(folder / "0.png")
    done = workspace.run(
        "dataset=imagefolder", f"dataset.root={workspace.folder / 'pets'}", "dataset.name=pets", code=2
    )
    assert done.sentence == (
        "teddy: no training image of pets can be held out, because each class has but one; add some images."
    )


# --- the disk ---


def test_a_store_below_a_file_is_the_users_to_change(finished, tmp_path):
    workspace = type(finished.workspace)(tmp_path, finished.workspace.start_process)
    (tmp_path / "file").write_text("")
    done = workspace.run(f"store={tmp_path / 'file' / 'store'}", code=2)
    assert "cannot be written (Not a directory); set store=FOLDER" in done.sentence


@pytest.fixture
def small_disk(tmp_path):
    """A real file system with 1 MB on it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs rights that this user does not have")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("stage", ["pool", "synthesis", "labels", "evaluation"])
def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_room(finished, small_disk, tmp_path, stage):
    kinds = {"pool": "trajectory", "synthesis": "images", "labels": "labels", "evaluation": "students"}
    gone = tuple(list(kinds.values())[list(kinds).index(stage) :])
    source = finished.copy(tmp_path / "source", without=gone)
    workspace = type(source)(tmp_path, source.start_process)
    subprocess.run(["cp", "-a", source.store, small_disk / "store"], check=True)
    before = {path: path.stat().st_mtime_ns for path in small_disk.glob("store/*/*/manifest.json")}
    ballast = small_disk / "ballast"
    free = os.statvfs(small_disk)
    # A few kB are left: enough to begin, too little to finish.
    ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - 4 * 4096))
    words = (f"store={small_disk / 'store'}", "labels.epochs=100", "evaluation.epochs=3")
    done = workspace.run(*words, settings={"teddy.evaluation.stage.RESUME_SECONDS": 0.0}, code=1)
    assert done.sentence.startswith(f"teddy: the disk of {small_disk / 'store'} is full; free some space and run")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    ballast.unlink()
    done = workspace.run(*words)
    assert [row["method"] for row in done.rows] == ["teddy", "random"]


@pytest.mark.parametrize("room", ["none left", "read-only"])
def test_an_output_folder_that_cannot_be_written_is_named_and_finished_work_is_kept(
    finished, small_disk, tmp_path, room
):
    workspace = finished.copy(tmp_path, without=("students",))
    before, out = workspace.manifests(), workspace.folder / "run0"
    out.symlink_to(small_disk)
    if room == "none left":
        free = os.statvfs(small_disk)
        (small_disk / "ballast").write_bytes(bytes(free.f_bavail * free.f_frsize - 4 * 4096))
    else:
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = workspace.run("evaluation.epochs=3", code=1)
    assert done.sentence.startswith(f"teddy: the output folder {out} cannot be written (")
    assert "free some space or set hydra.run.dir=FOLDER" in done.sentence
    assert "Logging error" not in done.err
    assert workspace.manifests().items() >= before.items()
