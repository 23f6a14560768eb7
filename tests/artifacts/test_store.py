"""The store: finished work is found, unfinished work resumes, and no file is ever written in part."""

import errno
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import teddy
from teddy.artifacts.fingerprint import file_digest, fingerprint
from teddy.artifacts.store import MANIFEST, ArtifactStore, atomic_write, read_json, write_json
from teddy.config.errors import StageFailed, UserError
from teddy.runtime.resume import save_tensors

CONTENT = {"ipc": 10, "lr": 0.25}


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def write_word(folder: Path) -> dict[str, Any]:
    (folder / "inner").mkdir(exist_ok=True)
    atomic_write(folder / "inner" / "word.txt", "teddy")
    return {"top1": 50.5}


class Counted:
    """A build function that counts its calls."""

    def __init__(self, build=write_word):
        self.build, self.calls = build, 0

    def __call__(self, folder):
        self.calls += 1
        return self.build(folder)


# --- atomic_write ---


@pytest.mark.parametrize("content", ["text é", b"\x00bytes", lambda path: path.write_text("by a function")])
def test_atomic_write_writes_what_it_is_given(tmp_path, content):
    path = atomic_write(tmp_path / "file.txt", content)
    expected = {"text é": "text é".encode(), b"\x00bytes": b"\x00bytes"}.get(content, b"by a function")
    assert path.read_bytes() == expected
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]
    assert path.stat().st_mode & 0o777 == 0o644, "others may read it, unlike mkstemp's own files"


def test_a_writer_that_fails_leaves_the_old_file_and_no_litter(tmp_path):
    path = atomic_write(tmp_path / "file.bin", b"old")

    def half(partial):
        partial.write_bytes(b"ne")
        raise OSError(errno.EIO, "the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        atomic_write(path, half)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.bin"]


def test_a_writer_that_is_killed_leaves_the_old_file(tmp_path):
    path = atomic_write(tmp_path / "file.bin", b"old")
    child = os.fork()
    if child == 0:
        atomic_write(path, lambda partial: (partial.write_bytes(b"ne"), os.kill(os.getpid(), 9)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    assert path.read_bytes() == b"old"


def test_json_goes_there_and_back(tmp_path):
    assert read_json(write_json(tmp_path / "a.json", {"b": (1, 2.5), "a": None})) == {"a": None, "b": [1, 2.5]}


@pytest.mark.parametrize("text", ["", '{"a": ', "\udcff"])
def test_a_damaged_json_file_is_refused_with_the_remedy(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=rf"a\.json cannot be read .*delete the folder {tmp_path} and run"):
        read_json(tmp_path / "a.json")


# --- produce and find ---


def test_what_was_made_is_found_again_with_its_facts_and_files(store):
    build = Counted()
    made = store.produce("words", CONTENT, build)
    assert made.folder == store.root / "words" / fingerprint(CONTENT)
    assert store.made == [made]
    other = ArtifactStore(store.root)
    found = other.produce("words", dict(reversed(CONTENT.items())), build)
    assert (found, build.calls, other.made) == (made, 1, [])
    assert found.facts["top1"] == 50.5
    manifest = json.loads((found.folder / MANIFEST).read_text())
    assert manifest["content"] == CONTENT
    word = found.folder / "inner" / "word.txt"
    assert manifest["files"] == {"inner/word.txt": {"size": 5, "sha256": file_digest(word)}}
    assert manifest.pop("digest") == fingerprint(manifest)


def test_other_content_or_another_kind_is_other_work(store):
    build = Counted()
    folders = {
        store.produce(kind, content, build).folder for kind in ("words", "names") for content in (CONTENT, {"ipc": 50})
    }
    assert (build.calls, len(folders)) == (4, 4)


def test_a_finished_store_may_be_moved_and_need_not_be_writable(store, tmp_path):
    made = store.produce("words", CONTENT, write_word)
    moved = ArtifactStore(store.root.rename(tmp_path / "elsewhere"))
    found = moved.find("words", CONTENT)
    assert found is not None
    assert (found.facts, found.fingerprint) == (made.facts, made.fingerprint)
    assert found.folder == tmp_path / "elsewhere" / "words" / made.fingerprint


def test_a_build_that_fails_leaves_no_manifest_and_its_folder_for_the_next_one(store):
    def cut_off(folder):
        atomic_write(folder / ".resume", "half")
        raise RuntimeError("cut off")

    with pytest.raises(RuntimeError, match="cut off"):
        store.produce("words", CONTENT, cut_off)
    assert store.find("words", CONTENT) is None
    assert store.made == []

    def go_on(folder):
        assert (folder / ".resume").read_text() == "half"
        return write_word(folder)

    assert store.produce("words", CONTENT, go_on).facts["top1"] == 50.5


def test_hidden_files_are_no_part_of_the_artifact_and_are_removed_when_it_is_finished(store):
    def build(folder):
        (folder / ".blocks").mkdir()
        (folder / ".blocks" / "0.bin").write_bytes(b"0")
        (folder / ".resume.bin").write_bytes(b"0")
        (folder / "inner").mkdir()
        (folder / "inner" / ".partial-abc.png").write_bytes(b"left by a killed run")
        (folder / "inner" / ".tmpAbc123").write_bytes(b"of safetensors, likewise")
        return write_word(folder)

    made = store.produce("words", CONTENT, build)
    assert list(json.loads((made.folder / MANIFEST).read_text())["files"]) == ["inner/word.txt"]
    left = {path.relative_to(made.folder).as_posix() for path in made.folder.rglob("*") if path.is_file()}
    assert left == {".lock", MANIFEST, "inner/word.txt"}


def test_hidden_files_stay_until_the_manifest_is_written(store, monkeypatch):
    """A kill while the files are being hashed must not cost the work."""

    def build(folder):
        atomic_write(folder / ".resume", "all of it")
        return write_word(folder)

    def killed(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("teddy.artifacts.integrity.file_digest", killed)
    with pytest.raises(KeyboardInterrupt):
        store.produce("words", CONTENT, build)
    folder = store.folder("words", CONTENT)
    assert (folder / ".resume").is_file()
    assert not (folder / MANIFEST).exists()


def test_seconds_add_up_over_the_runs_that_were_cut_off(store):
    def cut_off(folder):
        time.sleep(0.3)
        atomic_write(folder / ".resume", "a sign of life")
        raise RuntimeError("cut off")

    begun = time.monotonic()
    for _ in range(2):
        with pytest.raises(RuntimeError):
            store.produce("words", CONTENT, cut_off)
        time.sleep(0.3)  # between the runs nothing is spent
    seconds = store.produce("words", CONTENT, write_word).facts["seconds"]
    assert 0.59 < seconds < time.monotonic() - begun - 0.59


def test_a_build_may_return_its_own_seconds(store):
    assert store.produce("words", CONTENT, lambda folder: {"seconds": 7.5}).facts["seconds"] == 7.5


# --- damage ---


@pytest.mark.parametrize("harm", ["removed", "shorter", "longer", "other"])
def test_damaged_work_is_made_again_and_kept_aside(store, harm, caplog):
    build = Counted()
    made = store.produce("words", CONTENT, build)
    other = store.produce("words", {"ipc": 50}, build)
    word = made.folder / "inner" / "word.txt"
    if harm == "removed":
        word.unlink()
    else:
        word.write_text({"shorter": "ted", "longer": "teddy bear", "other": "tebby"}[harm])
    why = {
        "removed": "is missing",
        "shorter": "has 3 bytes instead of 5",
        "longer": "has 10 bytes instead of 5",
        "other": "holds other bytes than its manifest says",
    }
    (made.folder / "mine.txt").write_text("mine")
    for number in (1, 2):
        assert ArtifactStore(store.root).find("words", CONTENT) is None
        again = store.produce("words", CONTENT, build)
        assert (again.folder, word.read_text(), build.calls) == (made.folder, "teddy", 2 + number)
        aside = store.root / "damaged" / "words" / f"{made.fingerprint}-{number}"
        assert (aside / MANIFEST).is_file()
        if number == 1:
            assert caplog.messages == [f"store: {word} {why[harm]}; the artifact is moved to {aside} and made again."]
            assert (aside / "mine.txt").read_text() == "mine"
            word.write_text("again")
    assert store.produce("words", {"ipc": 50}, build) == other
    assert build.calls == 4


def manifest_with(name: str, entry: Any) -> str:
    """A manifest that is whole but for an entry in its list of files."""
    named = {"kind": "words", "fingerprint": fingerprint(CONTENT), "content": CONTENT}
    return json.dumps({**named, "facts": {}, "files": {name: entry}})


FILE = {"size": 5, "sha256": "0" * 64}


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"files": {"inner/wo',
        "[]",
        "{}",
        '{"files": [1], "facts": {}}',
        "null",
        "[" * 100_000,
        "\udcff",
        json.dumps(
            {"kind": "words", "fingerprint": fingerprint(CONTENT), "content": CONTENT, "facts": [], "files": {}}
        ),
        json.dumps({"kind": "words", "fingerprint": "0" * 16, "content": 0, "facts": {}, "files": {}}),
        manifest_with("x", {}),
        manifest_with("x", 5),
        *(manifest_with(name, FILE) for name in ("../x", "/etc/passwd", "a/../../x", "", ".", "a//b")),
    ],
)
def test_a_damaged_manifest_is_not_believed(store, text, caplog):
    made = store.produce("words", CONTENT, write_word)
    (made.folder / MANIFEST).write_bytes(text.encode(errors="surrogateescape"))
    again = ArtifactStore(store.root).produce("words", CONTENT, lambda folder: {**write_word(folder), "again": True})
    assert again.facts["again"]
    assert len(caplog.messages) == 1
    assert str(made.folder / MANIFEST) in caplog.messages[0]


def test_the_manifest_of_other_work_is_not_believed(store):
    made, other = (store.produce("words", {"ipc": ipc}, lambda folder: {"ipc": ipc}) for ipc in (1, 10))  # noqa: B023
    (made.folder / MANIFEST).write_bytes((other.folder / MANIFEST).read_bytes())
    build = Counted(lambda folder: {"ipc": 1})
    assert store.produce("words", {"ipc": 1}, build).facts["ipc"] == 1
    assert build.calls == 1


def test_work_whose_manifest_is_gone_is_made_again_from_nothing(store, caplog):
    made = store.produce("words", CONTENT, write_word)
    (made.folder / MANIFEST).unlink()

    def build(folder):
        assert not list(folder.glob("[!.]*")), "what was left might be damaged as well"
        return write_word(folder)

    assert store.produce("words", CONTENT, build).facts["top1"] == 50.5
    assert f"{made.folder / MANIFEST} is missing" in caplog.messages[0]


def test_a_file_is_read_once_while_nothing_shows_a_change(store, monkeypatch):
    reads = []
    monkeypatch.setattr("teddy.artifacts.integrity.file_digest", lambda path: reads.append(path) or file_digest(path))
    made = store.produce("words", CONTENT, write_word)
    for _ in range(3):
        assert ArtifactStore(store.root).produce("words", CONTENT, write_word) == made
    assert len(reads) == 1


def test_other_bytes_than_before_are_said(store, caplog):
    made = store.produce("words", CONTENT, write_word)
    (made.folder / "inner" / "word.txt").unlink()

    def differently(folder):
        (folder / "word.txt").write_text("bear")
        return {}

    store.produce("words", CONTENT, differently)
    assert f"{made.folder} was made again with other bytes than before" in caplog.messages[1]


def test_a_link_in_place_of_a_folder_is_a_stray_and_nothing_behind_it_is_touched(store, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.txt").write_text("mine")
    made = store.produce("words", CONTENT, write_word)
    (made.folder / "more").symlink_to(tmp_path / "outside")
    assert store.produce("words", CONTENT, write_word) == made
    assert not (made.folder / "more").exists()
    assert (tmp_path / "outside" / "x.txt").read_text() == "mine"


def test_every_artifact_that_a_run_uses_is_named(store, tmp_path):
    store.record = tmp_path / "artifacts.txt"
    made = [store.produce(kind, CONTENT, write_word) for kind in ("words", "names", "words")]
    assert store.record.read_text().split() == [f"{one.kind}/{one.fingerprint}" for one in made]


# --- who may compute ---


def test_a_closed_kind_is_found_but_never_made(store):
    build = Counted()
    made = store.produce("words", CONTENT, build)
    store.closed = {"words": "writing"}
    assert store.produce("words", CONTENT, build) == made
    with pytest.raises(UserError) as caught:
        store.produce("words", {"ipc": 50}, build)
    text = str(caught.value)
    assert "leaves out writing" in text
    assert str(store.root) in text
    assert text.endswith("add writing to stages.")
    assert build.calls == 1
    assert not store.folder("words", {"ipc": 50}).exists(), "nothing is written"
    store.produce("names", {"ipc": 50}, build)


def wait_for(path: Path) -> None:
    limit = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < limit, f"{path} does not appear"
        time.sleep(0.01)


def race(root: Path, started: Path, go: Path) -> None:
    """One of two processes that want the same work; the one that builds notes its number."""

    def build(folder: Path) -> dict[str, Any]:
        with (root / "calls").open("a") as stream:
            stream.write(f"{os.getpid()}\n")
        started.touch()
        wait_for(go)
        return {"builder": os.getpid()}

    ArtifactStore(root).produce("words", CONTENT, build)


FORK = multiprocessing.get_context("fork")


def other_run(store: ArtifactStore, go: Path) -> Any:
    """A process that has begun the work, and ends it when ``go`` appears."""
    store.root.mkdir()
    process = FORK.Process(target=race, args=(store.root, started := go.with_name("started"), go))
    process.start()
    wait_for(started)
    return process


def test_two_processes_that_want_the_same_compute_it_once(store, tmp_path):
    go = tmp_path / "go"
    first = other_run(store, go)
    second = FORK.Process(target=race, args=(store.root, tmp_path / "second", go))
    second.start()
    time.sleep(0.3)  # the second has every chance to begin
    assert second.is_alive()
    assert not (tmp_path / "second").exists()
    go.touch()
    for process in (first, second):
        process.join(30)
        assert process.exitcode == 0
    assert (store.root / "calls").read_text().split() == [str(first.pid)]
    found = store.find("words", CONTENT)
    assert found is not None
    assert found.facts["builder"] == first.pid


def test_a_killed_build_does_not_block_the_next_one(store, tmp_path):
    first = other_run(store, tmp_path / "never")
    first.kill()
    first.join()
    assert store.produce("words", CONTENT, write_word).facts["top1"] == 50.5


def test_runs_that_want_the_same_artifacts_leave_those_that_another_computes_to_the_end(store, tmp_path):
    go = tmp_path / "go"
    other = other_run(store, go)
    contents = [{"ipc": 1}, CONTENT, {"ipc": 50}]
    order = []
    for index in store.unclaimed_first("words", contents):
        order.append(index)
        if len(order) == 2:
            go.touch()
        store.produce("words", contents[index], write_word)
    other.join(30)
    assert order == [0, 2, 1]
    assert [len(one.files) for one in store.made] == [1, 1], "the third is the other's"
    assert list(store.unclaimed_first("words", contents)) == [0, 1, 2], "none is computed now"


# --- several processes of one run ---

TWO_PROCESSES = """
import json, sys, time
from pathlib import Path
import torch
from torch import distributed
from teddy.artifacts.processes import is_leader, rank
from teddy.artifacts import store as store_module
from teddy.artifacts.store import ArtifactStore

root = Path(sys.argv[1])
distributed.init_process_group("gloo")
store = ArtifactStore(root / "store")
calls = []


def alone(folder):
    calls.append("alone")
    time.sleep(0.5)
    (folder / "word.txt").write_text("teddy")
    return {"builder": rank()}


def together(folder):
    calls.append("together")
    total = torch.tensor(rank() + 1)
    distributed.all_reduce(total)
    if is_leader():
        (folder / "total.txt").write_text(str(int(total)))
    return {"total": int(total), "builder": rank()}


def fails(folder):
    raise RuntimeError("cut off")


if sys.argv[2] == "fails":
    store.produce("words", 0, fails)
artifacts = [store.produce("words", 1, alone), store.produce("words", 2, together, collective=True)]
artifacts += [store.produce("words", 1, alone), store.produce("words", 2, together, collective=True)]
store_module._is_locked = lambda folder: not is_leader() and folder == store.folder("words", 1)  # what processes see differs
calls.append(list(store.unclaimed_first("words", [1, 2])))
seen = {"calls": calls, "made": len(store.made), "artifacts": [[str(one.folder), one.facts] for one in artifacts]}
(root / f"{rank()}.json").write_text(json.dumps(seen))
distributed.destroy_process_group()
"""


def run_twice(folder: Path, how: str) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(TWO_PROCESSES)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(teddy.__file__).parents[1])}
    command = [*torchrun, str(folder / "program.py"), str(folder), how]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_of_two_processes_of_a_run_one_builds_and_both_return_the_same(tmp_path):
    done = run_twice(tmp_path, "builds")
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert (first["calls"], second["calls"]) == (["alone", "together", [0, 1]], ["together", [0, 1]])
    assert (first["made"], second["made"]) == (2, 0)
    assert first["artifacts"] == second["artifacts"]
    assert first["artifacts"][:2] == first["artifacts"][2:]
    (_, alone), (folder, together), *_ = first["artifacts"]
    assert (alone["builder"], together["builder"], together["total"]) == (0, 0, 3)
    assert alone["seconds"] >= 0.5
    assert (Path(folder) / "total.txt").read_text() == "3"
    manifest = json.loads((Path(folder) / MANIFEST).read_text())
    assert list(manifest["files"]) == ["total.txt"]


def test_a_build_that_fails_ends_all_processes_of_the_run(tmp_path):
    done = run_twice(tmp_path, "fails")
    assert done.returncode != 0
    assert "cut off" in done.stderr
    assert not list(tmp_path.glob("*.json"))


def test_the_store_loads_no_torch():
    program = "import sys, teddy.artifacts.store; assert 'torch' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": str(Path(teddy.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


# --- a store that cannot be written ---


@pytest.mark.parametrize("below", ["file", "file/deeper"])
def test_a_store_that_cannot_be_written_is_the_users_to_change(tmp_path, below):
    (tmp_path / "file").write_text("no folder")
    store = ArtifactStore(tmp_path / below)
    assert store.find("words", CONTENT) is None
    with pytest.raises(UserError, match=r"cannot be written \(Not a directory\); set store=FOLDER"):
        store.produce("words", CONTENT, write_word)


def raise_as_given(error: Exception):
    def build(folder):
        raise error

    return build


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("-- Process 1 terminated: OSError: [Errno 28] No space left on device: 'x.png'"),
    ],
)
def test_a_full_disk_is_reported_and_the_work_may_be_resumed(store, error):
    done = store.produce("words", {"ipc": 50}, write_word)
    with pytest.raises(StageFailed, match=f"the disk of {store.root} is full; free some space"):
        store.produce("words", CONTENT, raise_as_given(error))
    assert store.find("words", {"ipc": 50}) == done
    assert store.produce("words", CONTENT, write_word).facts["top1"] == 50.5


@pytest.mark.parametrize("error", [OSError(errno.EIO, "io"), RuntimeError("os error 5"), KeyError(28)])
def test_other_failures_pass_as_they_are(store, error):
    with pytest.raises(type(error)) as caught:
        store.produce("words", CONTENT, raise_as_given(error))
    assert caught.value is error


@pytest.fixture
def full_disk(tmp_path):
    """A real file system with 64 kB on it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs rights that this user does not have")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("how", ["bytes", "tensors"])
def test_a_really_full_disk(full_disk, how):
    store = ArtifactStore(full_disk / "store")
    done = store.produce("words", {"ipc": 50}, write_word)

    def build(folder):
        if how == "bytes":
            atomic_write(folder / "big", bytes(100_000))
        else:
            save_tensors(folder / "big.safetensors", {"x": torch.zeros(25_000)})
        return {}

    with pytest.raises(StageFailed, match="is full"):
        store.produce("words", CONTENT, build)
    assert ArtifactStore(full_disk / "store").find("words", {"ipc": 50}) == done
    assert not list(store.folder("words", CONTENT).glob("big*"))
    assert not list(store.folder("words", CONTENT).glob(".partial*"))
