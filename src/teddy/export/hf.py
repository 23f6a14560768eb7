"""A Hugging Face dataset: a parquet file, a card, and the files of the set itself, so that ``teddy.load`` reads it too."""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import mean, stdev

import yaml  # type: ignore[import-untyped]

from teddy.config.errors import StageFailed
from teddy.data.sources.hf import datasets_library
from teddy.export.imagefolder import about, image_files
from teddy.labels.store import LABELS
from teddy.report.comparison import with_spread
from teddy.sets.folder import CARD, PARQUET, SetFolder

# Of the real data, by dataset, as the Hub names licences.
LICENCES = {"fashion_mnist": "mit", "fashion_mini": "mit", "imagenet": "other", "tiny_imagenet": "other"}


def export(opened: SetFolder, out: Path, name: str, licence: str | None) -> str:
    """Write the dataset; its card says its ``name`` on the Hub and its licence, by default that of the real dataset."""
    library, spec = datasets_library(), opened.spec
    shutil.copytree(opened.path, out, dirs_exist_ok=True)
    distinct = len(set(spec.class_names)) == spec.num_classes  # of ImageNet's, two pairs are equal
    names = list(spec.class_names if distinct else spec.class_ids)
    features = library.Features({"image": library.Image(), "label": library.ClassLabel(names=names)})
    files = image_files(opened)
    images = [{"bytes": file.read_bytes(), "path": f"{file.parent.name}_{file.name}"} for file, _ in files]
    table = library.Dataset.from_dict({"image": images, "label": [label for _, label in files]}, features=features)
    (out / "data").mkdir(exist_ok=True)  # the set may be such a dataset already
    table.to_parquet(str(out / PARQUET))
    (out / CARD).write_text(card(opened, name, licence or LICENCES.get(spec.name, "unknown")))
    return f'datasets.load_dataset("{out}"), teddy.load("{out}")'


def card(opened: SetFolder, name: str, licence: str) -> str:
    """The dataset card: metadata for the Hub, then what the set is, what it is worth, and how to load it."""
    facts, labels, spec = opened.description, opened.description.labels, opened.spec
    metadata = {
        "license": licence,
        "pretty_name": facts.name,
        "task_categories": ["image-classification"],
        "tags": ["dataset-distillation"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": PARQUET}]}],
    }
    rows = [
        f"| {one['protocol']} | {one['labels']} | {one['student']} | {_spread(one['top1'])} | {_spread(one['baseline'])} |\n"
        for one in facts.results
    ]
    head = "| protocol | labels | student | this set | random real images |\n|---|---|---|---:|---:|\n"
    table = f"{head}{''.join(rows)}\nAccuracy in percent on real test images, mean ± sample standard deviation over students.\n"
    soft = {
        "hard": "The labels are class indices.",
        "stored": f"`{LABELS}` holds the teachers' logits for {labels.epochs} epochs of views, which `teddy.load` makes again.",
    }
    kind = soft.get(labels.kind, "`teachers/` holds the networks that label the views of the images (`teddy.load`).")
    unknown = "The licence of the real data is not known; " if licence == "unknown" else ""
    load = f'datasets.load_dataset("{name}", split="train")\nteddy.load("{name}")'
    return (
        f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}---\n\n{about(opened)}\n"
        f"{table if rows else 'Nothing has been measured on it.'}\n\n```python\n{load}\n```\n\n{kind} Networks see the images "
        f"normalised by the mean {list(spec.mean)} and the standard deviation {list(spec.std)}. {unknown}The images derive "
        f"from {facts.dataset.name}, whose terms hold for them.\n"
    )


def _spread(values: list[float]) -> str:
    return with_spread(mean(values), stdev(values) if len(values) > 1 else None) if values else "–"


def listing(folder: Path) -> str:
    """The files that :func:`push` uploads, with their sizes."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return "\n".join(f"{path.relative_to(folder)} ({path.stat().st_size:,} bytes)" for path in files)


def push(folder: Path, name: str) -> None:
    """Upload a folder to the Hub as the dataset OWNER/NAME; raise StageFailed if the Hub refuses or is out of reach."""
    from huggingface_hub import HfApi

    try:
        hub = HfApi()
        hub.create_repo(name, repo_type="dataset", exist_ok=True)
        hub.upload_folder(repo_id=name, folder_path=folder, repo_type="dataset")
    except Exception as error:  # the client's own kinds
        why = " ".join(str(error).split())
        raise StageFailed(f"{name} cannot be uploaded ({why}); run `hf auth login`, check name and network.") from error
