"""Plain PNG files by class, for any tool; and for ``rethinkdc``, which reads such a folder of ImageNet-1K."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from teddy.config.errors import UserError
from teddy.sets.folder import SetFolder
from teddy.synthesis.stage import DECODED, IMAGES


def image_files(opened: SetFolder) -> list[tuple[Path, int]]:
    """List the images of a set as networks see them, each with its class index, by class and number."""
    root = opened.path / (DECODED if opened.description.tiles > 1 else IMAGES)
    ids = enumerate(opened.spec.class_ids)
    return [(file, label) for label, name in ids for file in sorted((root / name).glob("*.png"))]


def copy_images(opened: SetFolder, folder: Path, names: Sequence[str]) -> None:
    """Copy the images into folders that are named by class."""
    for file, label in image_files(opened):
        target = folder / names[label] / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def about(opened: SetFolder) -> str:
    """A paragraph on what a set is and how it was made."""
    facts = opened.description
    method = facts.method.title or facts.method.name
    images = f"{len(image_files(opened))} images" if facts.tiles > 1 else f"{facts.ipc} images per class"
    cited = f" ({facts.method.citation})" if facts.method.citation else ""
    return f"# {facts.name}\n\n{images} of {facts.dataset.name}, distilled by {method}{cited} with\n\n    {facts.command}\n"


def export(opened: SetFolder, out: Path) -> str:
    """Write the class folders and ``classes.txt`` (folder and name of each class) to ``out``."""
    copy_images(opened, out, opened.spec.class_ids)
    names = zip(opened.spec.class_ids, opened.spec.class_names, strict=True)
    (out / "classes.txt").write_text("".join(f"{folder}\t{name}\n" for folder, name in names))
    return f'torchvision.datasets.ImageFolder("{out}")'


def export_rethinkdc(opened: SetFolder, out: Path) -> str:
    """Write ``images/``, class folders and nothing else as ``rethinkdc`` expects; UserError if the set is none of ImageNet-1K."""
    if opened.spec.num_classes != 1000:
        raise UserError(f"rethinkdc compares sets of ImageNet-1K, not of {opened.spec.name}; choose another --to.")
    copy_images(opened, out / IMAGES, opened.spec.class_ids)
    return f"IMAGENET_VAL_DIR=/data/imagenet/val rethinkdc {out / IMAGES} --soft --ipc {opened.description.ipc}"
