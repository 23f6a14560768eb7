"""``python -m teddy.score FOLDER``: a set that was made elsewhere, or one of ours, measured beside random real images."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from teddy import cli
from teddy.config.command import check_jobs, key_of, read_command, word_of
from teddy.config.errors import UserError
from teddy.config.schema import register_schemas

KEY = "methods.foreign"  # of the method that takes a set as it is
USAGE = """usage: python -m teddy.score FOLDER dataset=NAME [--protocol NAME] [KEY=VALUE ...]

Trains students on the images in FOLDER and on as many random real images, tests both on the real test images, and writes results
and a report as `python -m teddy` does, whose keys and options work here as well. FOLDER is a set of a run, a folder of
images by class, a Hugging Face dataset (parquet, save_to_disk), or a file of tensors (.pt, .safetensors).

examples: python -m teddy.score my_set dataset=cifar10 dataset.root=~/datasets/cifar10
          python -m teddy.score my_set.pt dataset=cifar10 --protocol idc 'evaluation.students=[convnet3_in]'"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code, as ``python -m teddy`` does."""
    sys.argv[1:] = argv = sys.argv[1:] if argv is None else list(argv)
    if not argv or {"-h", "--help"} & set(argv):
        print(USAGE)
        return 0 if argv else 2
    return cli.main(lambda: with_ipc(score_words(argv)), "python -m teddy.score")


def score_words(argv: Sequence[str]) -> list[str]:
    """Translate into words of ``python -m teddy``, without the number of images per class; UserError if no dataset is named."""
    folder, rest = Path(argv[0]).expanduser().absolute(), list(argv[1:])
    if "--protocol" in rest:
        place = rest.index("--protocol")
        rest[place : place + 2] = [f"evaluation.protocol={''.join(rest[place + 1 : place + 2])}"]
    words: dict[str, Any] = {f"{KEY}.path": str(folder), f"{KEY}.title": folder.stem}
    if (folder / "teddy.json").is_file():
        words |= _own_words(folder)
    typed = set(map(key_of, rest))
    if "dataset" not in {*typed, *words}:
        raise UserError(f"the dataset of {folder} is not known; add dataset=NAME, such as dataset=cifar10.")
    dropped = {*typed, *(("pool.strategy.folder",) if "pool" in typed else ())}
    return ["+experiment=score", *(word_of(key, value) for key, value in words.items() if key not in dropped), *rest]


def _own_words(folder: Path) -> dict[str, Any]:
    """Words from the description of a set of ours; where its teachers lie in it, they label random real images as well."""
    from teddy.sets.folder import open_set  # imported late, so that --help is quick

    about = open_set(folder).description
    foreign = {"path": str(folder / "images"), "tiles": about.tiles, "title": about.method.title or about.method.name}
    words: dict[str, Any] = {"dataset": about.dataset.name, **{f"{KEY}.{key}": one for key, one in foreign.items()}}
    facts = about.labels
    if facts.kind in ("online", "fixed"):
        words |= {"pool": "given", "pool.strategy.folder": str(folder), "labels": facts.kind, "seed": facts.seed}
        words |= {f"labels.{key}": one for key, one in {"temperature": facts.temperature, **asdict(facts.view)}.items()}
    return words


def with_ipc(words: list[str]) -> list[str]:
    """Add the number of images per class, unless it is among the words; the set and all other words are checked on the way.

    UserError if the set does not fit the dataset, or its classes have different numbers of images.
    """
    if any(key_of(word) == "synthesis.ipc" for word in words):
        return words
    register_schemas()
    if not (configs := check_jobs(read_command(words))):
        return words
    from teddy import factory
    from teddy.methods.foreign_images import read_foreign
    from teddy.plan import make_plan

    plan = make_plan(configs[0])
    path = Path(configs[0].methods["foreign"]["path"])
    counts = read_foreign(path, factory.dataset_of(configs[0], plan.source).spec).counts
    if len(set(counts)) > 1:
        raise UserError(
            f"{path} has {min(counts)} to {max(counts)} images of a class; give the number to take of each with "
            f"synthesis.ipc={min(counts)} or less, and random real images are as many."
        )
    return [words[0], f"synthesis.ipc={counts[0]}", *words[1:]]


if __name__ == "__main__":
    sys.exit(main())
