"""Nothing on disk is believed: every file of a finished run is harmed, named by ``verify`` and made again by a rerun."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from teddy.artifacts.__main__ import main
from teddy.artifacts.integrity import seal


def artifact_files(store: Path) -> list[Path]:
    """Every file of a store's artifacts, manifests included."""
    return sorted(path for path in store.glob("*/*/**/*") if path.is_file() and path.name != ".lock")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])  # of a manifest, a brace and the end of its line


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 16
    path.write_bytes(content)


def swap(path: Path) -> None:
    """Put the file of another artifact, or of another class or epoch, in its place."""
    kind = path.relative_to(path.parents[2] if path.name == "manifest.json" else path.parent.parent).parts[0]
    others = [one for one in artifact_files(store_of(path)) if one.suffix == path.suffix and one != path]
    content = path.read_bytes()
    other = next(one for one in [*(o for o in others if kind in o.parts), *others] if one.read_bytes() != content)
    path.write_bytes(other.read_bytes())


HARMS = {"truncated": truncate, "flipped": flip, "removed": Path.unlink, "swapped": swap}


def store_of(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.name == "store")


def artifact_of(path: Path) -> Path:
    return Path(*path.relative_to(store_of(path)).parts[:2])


def verified(path: Path, capsys, *options: str) -> tuple[int, list[str]]:
    capsys.readouterr()
    code = main(["verify", str(path), *options])
    return code, capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("harm", HARMS)
def test_verify_names_every_harmed_file_and_nothing_else(finished, tmp_path, capsys, harm):
    store, runs = finished.copy(tmp_path).store, str(finished.workspace.folder)
    code, lines = verified(store, capsys, "--runs", runs)
    assert (code, len(lines)) == (0, 1)
    files = artifact_files(store)
    assert {path.parts[0] for path in map(artifact_of, files)} == {"trajectory", "images", "labels", "students"}
    for path in files:
        if harm == "swapped" and path.name in ("terms.csv", "progress.json"):
            continue  # there is but one, or all are the same
        content = path.read_bytes()
        HARMS[harm](path)
        code, lines = verified(store / artifact_of(path), capsys, "--runs", runs)
        assert code == 1
        assert [line.split()[0] for line in lines[:-1]] == [str(path)]
        assert "repaired by: python -m teddy +experiment=quickstart" in lines[0]
        path.write_bytes(content)
    assert verified(store, capsys)[0] == 0


@pytest.mark.parametrize("number", range(4))
def test_the_same_command_makes_again_what_was_harmed_and_nothing_else(finished, tmp_path, capsys, number):
    """Of four artifacts, each is harmed in another way; all four ways in turn."""
    workspace = finished.copy(tmp_path)
    before, harmed = workspace.manifests(), set()
    for shift, kind in enumerate(("trajectory", "images", "labels", "students")):
        artifact = sorted(workspace.store.glob(f"{kind}/*"))[number % 2 if kind != "trajectory" else 0]
        inner = [path for path in artifact_files(workspace.store) if artifact in path.parents]
        victim = inner[(7 * number + shift) % len(inner)]
        harm = list(HARMS)[(number + shift) % 4]
        HARMS[harm if victim.name != "progress.json" else "flipped"](victim)
        harmed.add(artifact_of(victim) / "manifest.json")
    done = workspace.run()
    assert workspace.results() == finished.workspace.results()
    after = workspace.manifests()
    assert {path for path in after if after[path] != before[path]} == harmed
    said = [line for line in (done.out + done.err).splitlines() if "store: " in line]
    assert len(said) == sum(1 for one in harmed if any((workspace.store / "damaged").glob(f"{one.parent}-1"))), said
    assert [row["top1"] for row in done.rows] == [row["top1"] for row in finished.done.rows]
    assert verified(workspace.store, capsys)[0] == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("harm", ["truncated", "flipped", "removed"])
def test_every_file_harmed_in_turn_is_repaired_and_nothing_else(finished, tmp_path, capsys, harm):
    """In each run, one file of every artifact."""
    workspace = finished.copy(tmp_path)
    by_artifact = {}
    for path in artifact_files(workspace.store):
        by_artifact.setdefault(artifact_of(path), []).append(path)
    for index in range(max(map(len, by_artifact.values()))):
        before = workspace.manifests()
        victims = [files[index] for files in by_artifact.values() if index < len(files)]
        for path in victims:
            HARMS[harm](path)
        _, lines = verified(workspace.store, capsys)
        assert {line.split()[0] for line in lines[:-1]} == set(map(str, victims))
        workspace.run()
        assert workspace.results() == finished.workspace.results()
        after = workspace.manifests()
        assert {path.parent for path in after if after[path] != before[path]} == set(map(artifact_of, victims))
        shutil.rmtree(workspace.store / "damaged")


def test_an_edited_accuracy_is_measured_again_and_what_was_there_is_kept(finished, tmp_path):
    workspace = finished.copy(tmp_path)
    path = sorted(workspace.store.glob("students/*/manifest.json"))[0]
    manifest = json.loads(path.read_text())
    manifest["facts"]["top1"] = 99.0
    path.write_text(json.dumps(manifest))
    (path.parent / "notes.txt").write_text("mine")
    done = workspace.run()
    assert workspace.results() == finished.workspace.results()
    assert f"store: {path} was changed since it was written;" in " ".join(done.out.split()) + done.err
    aside = workspace.store / "damaged" / "students" / f"{path.parent.name}-1"
    assert json.loads((aside / "manifest.json").read_text())["facts"]["top1"] == 99.0
    assert (aside / "notes.txt").read_text() == "mine"


def test_a_picture_more_is_moved_away_and_nothing_is_made_again(finished, tmp_path, capsys):
    workspace = finished.copy(tmp_path)
    before = workspace.manifests()
    picture = sorted(workspace.store.glob("images/*/images/03_dress/0000.png"))[0]
    stray = picture.with_name("0001.png")
    shutil.copy(picture, stray)
    code, lines = verified(workspace.store, capsys)
    assert code == 1
    assert lines[0].startswith(f"{stray} is listed in no manifest")
    workspace.run("stages=[report]")
    assert workspace.manifests() == before
    artifact = artifact_of(stray)
    inner = stray.relative_to(workspace.store / artifact)
    assert (
        workspace.store / "damaged" / artifact.parent / f"{artifact.name}-1" / inner
    ).read_bytes() == picture.read_bytes()
    assert not stray.exists()
    assert verified(workspace.store, capsys)[0] == 0


def test_damage_in_a_stage_that_is_left_out_ends_the_run_with_the_remedy(finished, tmp_path):
    workspace = finished.copy(tmp_path)
    labels = sorted(workspace.store.glob("labels/*/labels.safetensors"))[0]
    flip(labels)
    before = workspace.manifests()
    done = workspace.run("stages=[evaluation]", code=2)
    assert done.sentence == (
        f"teddy: stages=[...] leaves out labels, but {labels} holds other bytes than its manifest says; add labels to stages."
    )
    assert workspace.manifests() == before
    assert not (workspace.store / "damaged").exists()


def test_a_manifest_of_an_earlier_version_is_believed_as_far_as_it_goes(finished, tmp_path, capsys):
    workspace = finished.copy(tmp_path)
    for path in workspace.store.glob("*/*/manifest.json"):
        manifest = json.loads(path.read_text())
        del manifest["digest"]
        path.write_text(json.dumps(manifest))
    before = workspace.manifests()
    workspace.run()
    assert workspace.manifests() == before
    flip(sorted(workspace.store.glob("labels/*/labels.safetensors"))[0])
    assert verified(workspace.store, capsys)[0] == 1


@pytest.mark.parametrize("name", ["../../../outside.safetensors", "/outside.safetensors"])
def test_a_name_that_leaves_its_folder_is_never_followed(finished, tmp_path, name):
    """In a manifest that is whole in all other ways: in the list of files, and in the facts alone."""
    workspace = finished.copy(tmp_path)
    (path,) = workspace.store.glob("trajectory/*/manifest.json")
    manifest = json.loads(path.read_text())
    del manifest["digest"]
    first = manifest["facts"]["members"][0]
    kept, first["file"] = first["file"], name
    path.write_text(json.dumps(seal(manifest)))
    assert f"{path} lists no file {name}" in workspace.run("stages=[pool]", code=2).sentence
    manifest["files"][name] = manifest["files"].pop(kept)
    path.write_text(json.dumps(seal(manifest)))
    done = workspace.run("stages=[evaluation]", code=2)
    assert f"leaves out pool, but {path} lists a file outside its folder; add pool to stages" in done.sentence
    workspace.run()
    assert workspace.results() == finished.workspace.results()


# --- gc ---


def collected(store: Path, capsys, *options: str) -> list[str]:
    capsys.readouterr()
    assert main(["gc", str(store), *options]) == 0
    return capsys.readouterr().out.splitlines()


def test_gc_deletes_what_no_run_refers_to_and_what_it_wrote_only(finished, tmp_path, capsys):
    workspace = finished.copy(tmp_path)
    store, runs = workspace.store, tmp_path / "outputs"
    shutil.copytree(finished.done.folder, runs / "a" / "1")
    old = time.time() - 2 * 24 * 3600

    def age():
        for path in [*store.rglob("*"), store]:
            os.utime(path, (old, old))

    age()
    options = ("--runs", str(runs))
    assert collected(store, capsys, *options)[0].startswith("0 artifacts")
    # A run that used all but the labels and students of its second method.
    names = (runs / "a" / "1" / "artifacts.txt").read_text().split()
    assert sorted(names) == sorted(path.parent.as_posix() for path in workspace.manifests())
    gone = [next(name for name in names[::-1] if name.startswith(kind)) for kind in ("labels", "students")]
    for path in (runs / "a" / "1").iterdir():
        if path.name in ("results.jsonl", "run.json"):
            path.unlink()
    (runs / "a" / "1" / "artifacts.txt").write_text("\n".join(set(names) - set(gone)))
    unfinished, foreign = store / "images" / ("0" * 16), store / gone[0] / "mine.txt"
    unfinished.mkdir()
    (unfinished / "part.png").touch()
    foreign.write_text("mine")
    age()
    before = artifact_files(store)
    lines = collected(store, capsys, *options)
    assert [line.split()[-1] for line in lines[:2]] == [str(store / name) for name in sorted(gone)]
    assert artifact_files(store) == before, "a dry run"
    os.utime(store / gone[1])
    os.utime(store / gone[1] / "manifest.json")
    assert str(store / gone[1]) not in " ".join(collected(store, capsys, *options)), (
        "it may belong to a run that is not over"
    )
    age()
    collected(store, capsys, *options, "--delete")
    left = {path for path in before if not any(store / name in path.parents for name in gone)}
    assert set(artifact_files(store)) == left | {foreign}
    assert not (store / gone[1]).exists()
    workspace.run()
    found = workspace.results()
    assert found == finished.workspace.results()


def test_gc_keeps_what_earlier_versions_did_not_name_and_asks_for_run_folders(finished, tmp_path, capsys):
    store, runs = finished.copy(tmp_path).store, tmp_path / "outputs"
    with pytest.raises(SystemExit):
        main(["gc", str(store), "--runs", str(runs)])
    assert "--runs" in capsys.readouterr().err
    shutil.copytree(finished.done.folder, runs)
    (runs / "artifacts.txt").unlink()
    for path in [*store.rglob("*"), store]:
        os.utime(path, (0, 0))
    lines = collected(store, capsys, "--runs", str(runs))
    assert lines[0].startswith("0 artifacts")
    assert lines[-1].startswith("Runs of an earlier version")
