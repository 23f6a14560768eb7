"""The folder of a synthetic set: written when a run has finished, checked to the last byte when it is opened.

``docs/use.md`` says what it holds.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from teddy.artifacts.fingerprint import fingerprint
from teddy.artifacts.integrity import checksum, compare, is_inside
from teddy.artifacts.store import write_json
from teddy.config.errors import UserError
from teddy.data.distilled import load_distilled
from teddy.data.images import TensorImages
from teddy.data.spec import DatasetSpec
from teddy.data.whitening import Whitening, check_whitening
from teddy.labels.store import LABELS
from teddy.pool.members import Member
from teddy.runtime.memory import machine_memory
from teddy.runtime.resume import load_tensors, save_tensors
from teddy.sets.description import Description, FileEntry
from teddy.synthesis.stage import DECODED, IMAGES, ImageFolderArtifact

DESCRIPTION = "teddy.json"
CARD = "README.md"  # a text for people that may lie beside the description, such as the card of a hub
PARQUET = "data/train-00000-of-00001.parquet"  # the images once more, as a table, which may lie there as well
WHITENING = "whitening.safetensors"
# what a set may consist of
PATTERNS = [DESCRIPTION, CARD, LABELS, WHITENING, f"{IMAGES}/*", f"{DECODED}/*", "teachers/*"]
LARGEST = 1 << 28  # bytes of a description
_ADAPTER = TypeAdapter(Description)


@dataclass(frozen=True)
class SetFolder:
    """An opened set; what labels and students read of it (:class:`teddy.synthesis.stage.SyntheticImages`)."""

    path: Path
    description: Description

    @cached_property
    def spec(self) -> DatasetSpec:
        """Classes, image size and normalisation."""
        facts, whitening = self.description.dataset, None
        if facts.whitening is not None:
            check_whitening(facts.channels, facts.size)
            tensors, _ = load_tensors(self.path / facts.whitening)
            whitening = Whitening(*(tensors[one.name] for one in dataclasses.fields(Whitening)))
        names, normal = (facts.class_names, facts.class_ids), (facts.mean, facts.std)
        return DatasetSpec(facts.name, len(facts.class_ids), facts.channels, facts.size, *normal, *names, whitening)

    @cached_property
    def images(self) -> TensorImages:
        """The 8-bit images as students see them, in the order of classes and numbers; of images with tiles, the tiles."""
        facts, tiles = self.description.dataset, self.description.tiles
        count = sum(name.startswith(f"{IMAGES}/") for name in self.description.files)
        needed = count * tiles**2 * facts.channels * facts.size**2
        if needed > machine_memory():
            raise UserError(f"the images of {self.path} take {needed / 1e9:,.0f} GB of memory; use a larger machine.")
        return load_distilled(self.path / IMAGES, self.spec, tiles)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the images' bytes and normalisation; what the description says about their origin does not count."""
        files = {name: one.sha256 for name, one in self.description.files.items()}
        pixels = {name: sha for name, sha in files.items() if name.startswith(f"{IMAGES}/") or name == WHITENING}
        return fingerprint({"set": pixels, "dataset": self.description.dataset, "tiles": self.description.tiles})

    @property
    def teachers(self) -> tuple[Member, ...]:
        """The teachers that travel along, named by their weights."""
        carried = []
        for one in self.description.labels.teachers:
            if one.file in self.description.files:
                name = self.description.files[one.file].sha256[:16]
                history = None if one.history is None else self.path / one.history
                carried.append(Member(one.network, self.path / one.file, one.epoch, name, one.top1_holdout, history))
        return tuple(carried)

    @property
    def learned_lr(self) -> float | None:
        """The students' learning rate, for a method that learned one."""
        return self.description.learned_lr


def write_set(
    folder: Path,
    description: Description,
    images: ImageFolderArtifact,
    teachers: Sequence[Member] = (),
    labels: Path | None = None,
) -> SetFolder:
    """Write the folder of a set, in place of one that is there; it appears when it is whole.

    Weights and labels are links into the store where the file system has links; images, which somebody may edit, are copies.
    The files are entered into the description, which names files for the teachers if these are to be written.
    """
    partial = folder.with_name(f".{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for name in sorted(images.artifact.files):
            if name.startswith((f"{IMAGES}/", f"{DECODED}/")):
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(images.artifact.folder / name, partial / name)
        for facts, member in zip(description.labels.teachers, teachers, strict=True):
            for carried, source in ((facts.file, member.file), (facts.history, member.history)):
                if carried is not None and source is not None:
                    _link(source, partial / carried)
        if labels is not None:
            _link(labels, partial / LABELS)
        if images.spec.whitening is not None:
            save_tensors(partial / WHITENING, vars(images.spec.whitening))
        paths = [path for path in sorted(partial.rglob("*")) if path.is_file()]
        files = {path.relative_to(partial).as_posix(): FileEntry(path.stat().st_size, checksum(path)) for path in paths}
        description = dataclasses.replace(description, files=files)
        write_json(partial / DESCRIPTION, description)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return SetFolder(folder, description)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def open_set(path: Path, within: Path | None = None) -> SetFolder:
    """Open the folder of a set after a comparison of all files with their checksums.

    Links may lead to files below ``within``, by default the folder itself. UserError if something is missing, was changed, does
    not belong to the set, or makes no sense.
    """
    path, remedy = path.absolute(), "fetch the set again, or make it again with the command that is in it."
    file = path / DESCRIPTION
    try:
        if file.stat().st_size > LARGEST:
            raise UserError(f"{file} has more than {LARGEST:,} bytes, and no description has; {remedy}")
        description = _ADAPTER.validate_json(file.read_bytes())
    except OSError as error:
        why = f"{error.strerror}: {DESCRIPTION}"
        raise UserError(f"{path} holds no set ({why}); give a folder that a run names on its line 'Set:'.") from error
    except ValidationError as error:
        first = error.errors()[0]
        key, what = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        raise UserError(f"{file} is no description of a set ({key}: {what}); {remedy}") from error
    root = (within or path).resolve()
    for name in description.files:
        if not is_inside(name) or not (path / name).resolve().is_relative_to(root):
            raise UserError(f"{file} lists {name!r}, which is not inside of its folder; {remedy}")
    listed = {name: dataclasses.asdict(entry) for name, entry in description.files.items()}
    broken, strays = compare(path, file, listed)
    for beside in (CARD, PARQUET):
        strays.pop(path / beside, None)
    for one, problem in (broken | strays).items():
        raise UserError(f"{one} {problem}; {remedy}")
    _check(description, file, remedy)
    return SetFolder(path, description)


def _check(description: Description, file: Path, remedy: str) -> None:
    """Raise UserError if the folder lacks a file that the labels or the images need."""
    labels, dataset = description.labels, description.dataset
    needed = [f"{IMAGES}/{name}/0000.png" for name in dataset.class_ids]
    needed += [name for name in (dataset.whitening, dataset.boxes) if name is not None]
    if labels.kind == "stored":
        needed.append(LABELS)
    if labels.kind in ("online", "fixed"):
        needed += [one.file or "teachers/" for one in labels.teachers] or ["teachers/"]
        needed += [one.history for one in labels.teachers if one.history is not None]
    for name in needed:
        if name not in description.files:
            raise UserError(f"{file} lists no file {name}, which this set needs; {remedy}")
