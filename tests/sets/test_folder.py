"""The folder of a set: what a run writes, what other tools read of it, and what is refused."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from torchvision.datasets import ImageFolder

from teddy.artifacts.fingerprint import file_digest
from teddy.artifacts.store import ArtifactStore
from teddy.config.errors import UserError
from teddy.data.distilled import export_images
from teddy.data.spec import DatasetSpec
from teddy.data.whitening import zca
from teddy.labels.compression import AllLogits, Compression, TopK
from teddy.labels.store import StoredLabels, write_stored_labels
from teddy.labels.views import ViewMaker, ViewRecipe
from teddy.models.networks import build_network
from teddy.pool.members import Member
from teddy.runtime.resume import save_tensors
from teddy.sets.description import DatasetFacts, Description, LabelFacts, MethodFacts, TeacherFacts
from teddy.sets.folder import WHITENING, SetFolder, open_set, write_set
from teddy.synthesis.stage import ImageFolderArtifact

SPEC = DatasetSpec("spots", 3, 1, 8, (0.4,), (0.3,), ("a spot", "b", "c"), ("0_a", "1_b", "2_c"))
VIEW = ViewRecipe(min_scale=0.5)


def labeller(images: torch.Tensor) -> torch.Tensor:
    """Logits of three classes that differ for every view."""
    return torch.stack([images.mean((1, 2, 3)), images.amax((1, 2, 3)), -images.amin((1, 2, 3))], 1)


@pytest.fixture
def artifact(tmp_path: Path) -> ImageFolderArtifact:
    """Two images of each class in a store."""
    pixels = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def build(folder: Path) -> dict[str, Any]:
        export_images(folder / "images", pixels, torch.tensor([0, 0, 1, 1, 2, 2]), SPEC)
        return {}

    return ImageFolderArtifact(ArtifactStore(tmp_path / "store").produce("images", {}, build), SPEC)


def describe(kind: str = "hard", **labels: Any) -> Description:
    facts = DatasetFacts("spots", SPEC.class_ids, SPEC.class_names, 1, 8, SPEC.mean, SPEC.std)
    recipe = LabelFacts(kind, temperature=4.0, view=VIEW, seed=7, **labels)  # type: ignore[arg-type]
    return Description("spots-2", MethodFacts("mine", "Mine"), facts, ipc=2, labels=recipe)


def stored(folder: Path, images: ImageFolderArtifact, compression: Compression) -> Path:
    folder.mkdir()
    views = ViewMaker(images.images.images, SPEC, VIEW, 7)
    write_stored_labels(folder, views, labeller, 3, compression, 4)
    return folder / "labels.safetensors"


@pytest.fixture
def whole(tmp_path: Path, artifact: ImageFolderArtifact) -> SetFolder:
    """A set with stored labels."""
    labels = stored(tmp_path / "labels", artifact, AllLogits(3))
    write_set(tmp_path / "sets" / "mine", describe("stored", epochs=3), artifact, (), labels)
    return open_set(tmp_path / "sets" / "mine")


def test_other_tools_read_the_images_and_the_labels(whole: SetFolder, artifact: ImageFolderArtifact) -> None:
    folder = ImageFolder(str(whole.path / "images"))
    assert folder.classes == list(SPEC.class_ids)
    pixels = np.stack([np.array(Image.open(path)) for path, _ in folder.samples])
    assert np.array_equal(pixels, artifact.images.images[:, 0].numpy())
    logits = load_file(whole.path / "labels.safetensors")["logits"]
    assert (logits.dtype, logits.shape) == (np.float16, (3, 6, 3))
    views = ViewMaker(artifact.images.images, SPEC, VIEW, 7)
    for epoch in range(3):
        expected = labeller(views(epoch, torch.arange(6)).images).half()
        assert np.array_equal(logits[epoch], expected.numpy())


def test_the_description_lists_every_file_with_its_checksum(whole: SetFolder) -> None:
    listed = json.loads((whole.path / "teddy.json").read_text())
    found = {path.relative_to(whole.path).as_posix() for path in whole.path.rglob("*") if path.is_file()}
    assert found == {*listed["files"], "teddy.json"}
    for name, entry in listed["files"].items():
        assert entry == {"size": (whole.path / name).stat().st_size, "sha256": file_digest(whole.path / name)}
    assert listed["format"] == 1
    assert listed["dataset"]["class_names"] == ["a spot", "b", "c"]
    assert listed["labels"]["view"] == dataclasses.asdict(VIEW)


@pytest.mark.parametrize("compression", [AllLogits(3), TopK(3, 2, 4.0)], ids=["all", "top_k"])
def test_labels_come_back_bit_for_bit(tmp_path: Path, artifact: ImageFolderArtifact, compression: Compression) -> None:
    file = stored(tmp_path / "labels", artifact, compression)
    top_k = getattr(compression, "top_k", None)
    made = write_set(tmp_path / "mine", describe("stored", epochs=3, top_k=top_k), artifact, (), file)
    source, again = (StoredLabels(path, (3, 6), compression, 4.0) for path in (file, made.path / "labels.safetensors"))
    views = ViewMaker(artifact.images.images, SPEC, VIEW, 7)
    for epoch in range(3):
        assert torch.equal(again.logits(epoch, views), source.logits(epoch, views))
    assert again.view_epoch(4) == 1


def test_the_set_is_read_as_the_run_saw_it(whole: SetFolder, artifact: ImageFolderArtifact) -> None:
    assert whole.spec == SPEC
    assert torch.equal(whole.images.images, artifact.images.images)
    assert torch.equal(whole.images.labels, artifact.images.labels)


def test_a_whitening_travels_along(tmp_path: Path, artifact: ImageFolderArtifact) -> None:
    whitening = zca(torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(1)), 0.1)
    white = dataclasses.replace(artifact, spec=dataclasses.replace(SPEC, whitening=whitening))
    about = describe()
    about = dataclasses.replace(about, dataset=dataclasses.replace(about.dataset, whitening=WHITENING))
    write_set(tmp_path / "mine", about, white)
    seen = open_set(tmp_path / "mine").spec.normalise(artifact.images.images)
    assert torch.equal(seen, white.spec.normalise(artifact.images.images))


def test_teachers_travel_with_online_labels(tmp_path: Path, artifact: ImageFolderArtifact) -> None:
    network = build_network("convnet2_w8", 3, 1, 8, seed=3)
    save_tensors(tmp_path / "weights.safetensors", network.state_dict())
    member = Member("convnet2_w8", tmp_path / "weights.safetensors", 2, "0" * 16, 50.0)
    about = describe("online", teachers=[TeacherFacts.of(member, 0, carried=True)])
    made = write_set(tmp_path / "mine", about, artifact, [member])
    (facts,) = open_set(made.path).description.labels.teachers
    assert (facts.network, facts.epoch, facts.file) == ("convnet2_w8", 2, "teachers/00.safetensors")
    assert file_digest(made.path / str(facts.file)) == file_digest(member.file)


def test_a_set_is_replaced_as_a_whole(whole: SetFolder, artifact: ImageFolderArtifact) -> None:
    left = whole.path.with_name(f".{whole.path.name}")  # of a killed run
    left.mkdir()
    (left / "half.png").write_bytes(b"half")
    write_set(whole.path, describe(), artifact)
    assert open_set(whole.path).description.labels.kind == "hard"
    assert sorted(path.name for path in whole.path.iterdir()) == ["images", "teddy.json"]
    assert not left.exists()


def test_a_copied_set_is_self_contained(whole: SetFolder, tmp_path: Path) -> None:
    shutil.copytree(whole.path, tmp_path / "elsewhere" / "copy")
    shutil.rmtree(tmp_path / "store")
    assert torch.equal(open_set(tmp_path / "elsewhere" / "copy").images.images, whole.images.images)


def test_a_card_for_people_is_no_stray(whole: SetFolder) -> None:
    (whole.path / "README.md").write_text("# Spots")
    (whole.path / ".gitattributes").write_text("*.safetensors filter=lfs")
    open_set(whole.path)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((path / "teddy.json").read_text())
    change(content)
    (path / "teddy.json").write_text(json.dumps(content))


def damage(path: Path, name: str, content: bytes) -> None:
    """Replace a file, which is a link to one in the store."""
    (path / name).unlink()
    (path / name).write_bytes(content)


FIRST = "images/0_a/0000.png"
HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no description": (lambda path: (path / "teddy.json").unlink(), "holds no set"),
    "no JSON": (lambda path: (path / "teddy.json").write_text("{"), "is no description"),
    "deep JSON": (lambda path: (path / "teddy.json").write_text("[" * 10**6), "is no description"),
    "newer format": (lambda path: edit(path, lambda d: d.update(format=2)), "format"),
    "missing": (lambda path: (path / FIRST).unlink(), "is missing"),
    "cut short": (lambda path: damage(path, FIRST, b"short"), "has 5 bytes"),
    "other bytes": (
        lambda path: damage(path, FIRST, bytes((path / FIRST).stat().st_size)),
        "holds other bytes",
    ),
    "stray": (lambda path: shutil.copy(path / FIRST, path / "images/0_a/0009.png"), "is listed in no manifest"),
    "above": (lambda path: edit(path, lambda d: d["files"].update({"../x": d["files"][FIRST]})), "not inside"),
    "absolute": (
        lambda path: edit(path, lambda d: d["files"].update({"/etc/passwd": d["files"][FIRST]})),
        "not inside",
    ),
    "class above": (
        lambda path: edit(path, lambda d: d["dataset"].update(class_ids=["..", "1_b", "2_c"])),
        "class_ids",
    ),
    "huge side": (lambda path: edit(path, lambda d: d["dataset"].update(size=10**9)), "dataset.size"),
    "no number": (lambda path: edit(path, lambda d: d["dataset"].update(std=[0])), "std"),
    "unlisted class": (
        lambda path: edit(path, lambda d: d["dataset"].update(class_ids=["0_a", "1_b", "7"])),
        "lists no",
    ),
    "no labels": (lambda path: edit(path, lambda d: d["files"].pop("labels.safetensors")), "labels.safetensors"),
    "unknown kind": (lambda path: edit(path, lambda d: d["labels"].update(kind="guessed")), "labels.kind"),
    "no teachers": (lambda path: edit(path, lambda d: d["labels"].update(kind="online")), "teachers/"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_not_the_set_is_refused_in_one_sentence(whole: SetFolder, case: str) -> None:
    change, words = HOSTILE[case]
    change(whole.path)
    with pytest.raises(UserError) as caught:
        open_set(whole.path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith((".", "'Set:'."))


def test_a_link_out_of_the_folder_is_followed_only_into_a_cache_that_is_named(whole: SetFolder, tmp_path: Path) -> None:
    blob = tmp_path / "cache" / "blobs" / "abc"
    blob.parent.mkdir(parents=True)
    shutil.copy(whole.path / FIRST, blob)
    snapshot = tmp_path / "cache" / "snapshots" / "1"
    shutil.copytree(whole.path, snapshot)
    (snapshot / FIRST).unlink()
    os.symlink(blob, snapshot / FIRST)
    with pytest.raises(UserError, match="not inside"):
        open_set(snapshot)
    open_set(snapshot, within=tmp_path / "cache")


def test_an_image_that_announces_more_pixels_is_refused_before_it_is_decoded(whole: SetFolder) -> None:
    Image.new("L", (4096, 4096)).save(whole.path / "big.png")
    damage(whole.path, FIRST, (whole.path / "big.png").read_bytes())
    (whole.path / "big.png").unlink()
    entry = {"size": (whole.path / FIRST).stat().st_size, "sha256": file_digest(whole.path / FIRST)}
    edit(whole.path, lambda d: d["files"].update({FIRST: entry}))
    with pytest.raises(UserError, match="is L 4096 x 4096"):
        _ = open_set(whole.path).images


def test_half_a_set_is_removed(tmp_path: Path, artifact: ImageFolderArtifact) -> None:
    with pytest.raises(FileNotFoundError):
        write_set(tmp_path / "sets" / "mine", describe("stored", epochs=3), artifact, (), tmp_path / "nothing")
    assert list((tmp_path / "sets").iterdir()) == []


def test_images_are_copies_and_labels_are_links(
    whole: SetFolder, artifact: ImageFolderArtifact, tmp_path: Path
) -> None:
    assert (whole.path / "labels.safetensors").samefile(tmp_path / "labels" / "labels.safetensors")
    for name in artifact.artifact.files:
        with (whole.path / name).open("r+b") as stream:  # in place, as an editor may write
            stream.write(b"edited")
        assert file_digest(artifact.artifact.folder / name) == whole.description.files[name].sha256


def test_labels_are_copied_where_the_file_system_has_no_links(
    tmp_path: Path, artifact: ImageFolderArtifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    file = stored(tmp_path / "labels", artifact, AllLogits(3))
    monkeypatch.setattr(os, "link", refuse)
    made = write_set(tmp_path / "mine", describe("stored", epochs=3), artifact, (), file)
    copy = open_set(made.path).path / "labels.safetensors"
    assert not copy.samefile(file)
    assert copy.read_bytes() == file.read_bytes()
