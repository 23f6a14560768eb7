"""Teddy from Python: open a distilled set, make one, measure one. The same objects as the command line's, without its words.

::

    data = teddy.load("outputs/quickstart/…/sets/classwise")
    data = teddy.distill("fashion_mini", ipc=10, method="classwise")
    table = teddy.evaluate(data, students=["convnet3"], epochs=100)
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd  # type: ignore[import-untyped]

from teddy import factory, pipeline
from teddy.artifacts.store import ArtifactStore
from teddy.config.build import import_plugins
from teddy.config.command import Command, check_jobs, word_of
from teddy.config.errors import UserError, reason
from teddy.config.messages import is_about_config, sentence
from teddy.config.paths import options
from teddy.config.schema import TeddyConfig, register_schemas
from teddy.data.sources.given import GivenImages, digest, read_images
from teddy.evaluation.split import EvalSplit
from teddy.evaluation.stage import evaluate as train_student
from teddy.plan import make_plan
from teddy.runtime.loggers import RunLog
from teddy.runtime.progress import StageProgress
from teddy.sets.dataset import DistilledSet
from teddy.sets.folder import DESCRIPTION, PATTERNS, open_set

__all__ = ["DistilledSet", "distill", "evaluate", "load"]

_HUB = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_FACTS = ("num_classes", "channels", "size", "mean", "std", "class_names")


def load(source: str | Path, *, device: str = "cpu") -> DistilledSet:
    """Open a distilled set after a check of all its files; UserError if there is none, or it is damaged.

    Args:
        source: the folder of a set, or of a run that made a single one, or ``owner/name`` of a data set of the Hugging Face hub.
        device: of views and targets.
    """
    import_plugins()  # which may bring the networks of teachers
    path = Path(source).expanduser()
    if not (path / DESCRIPTION).is_file() and (path / "sets").is_dir():
        made = sorted(one.parent for one in path.glob(f"sets/[!.]*/{DESCRIPTION}"))
        if len(made) != 1:
            names = ", ".join(str(one.relative_to(path)) for one in made) or "none"
            raise UserError(f"{path} holds several sets or none ({names}); give the folder of one of them.")
        (path,) = made
    if path.exists() or not _HUB.fullmatch(str(source)):
        return DistilledSet(open_set(path), device)
    snapshot = _fetch(str(source))
    return DistilledSet(open_set(snapshot, within=snapshot.parents[1]), device)


def _fetch(name: str) -> Path:
    """The folder of a data set of the Hugging Face hub, in its cache."""
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=PATTERNS))
    except ImportError as error:
        raise UserError(f"{name} is no folder; to fetch it from a hub: pip install 'teddy-distill[hf]'.") from error
    except Exception as error:  # the network, an account, the cache: of several libraries
        raise UserError(
            f"{name} is no folder, and the Hugging Face hub gives no data set of this name ({reason(error)}); correct the name, "
            "or fetch it while there is a network."
        ) from error


def distill(
    dataset: Any,
    *,
    ipc: int = 10,
    method: str = "classwise",
    test: Any = None,
    out: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> DistilledSet:
    """Distil a data set: teachers, images and soft labels, with the quick start's values for what is not set.

    What is in the store already is found and not made again. The command line's report and students are left out. UserError if
    something that was given cannot be used, StageFailed if a stage could not be finished.

    Args:
        dataset: the name of a file in ``conf/dataset``, a folder as of ``dataset=imagefolder``, or a torch Dataset of pairs
            (image, class index), see :func:`teddy.data.sources.given.read_images`.
        ipc: images per class.
        method: the name of a file in ``conf/method``.
        test: a torch Dataset of test images, for a torch Dataset.
        out: the run's folder; by default a new one below ``outputs``.
        settings: further keys of the command line, such as ``{"synthesis.iterations": 50, "trainer": "cpu"}``.
    """
    words: dict[str, Any] = {"name": "distill", "stages": ["pool", "synthesis", "labels"], "logger": "csv"}
    words |= {"method": [method], "synthesis.ipc": ipc, **(settings or {})}
    given = None
    if isinstance(dataset, str | Path):
        words = _named(dataset) | words
    else:
        given = GivenImages(dataset, test, words.get("dataset.channels"), words.get("dataset.size"))
        facts = dict.fromkeys((f"dataset.{name}" for name in _FACTS), None)
        words = {"dataset": "fashion_mini", **facts, "dataset.name": type(dataset).__name__.lower(), **words}
    config, typed = _compose({"experiment": "quickstart", **words})
    plan, program = make_plan(config), ["python", "-m", "teddy"]
    if given is not None:
        if test is None and "evaluation" in config.stages:
            raise UserError("stages names evaluation, and there are no test images; give them as test=….")
        plan, program = dataclasses.replace(plan, source=given), ["teddy.distill"]
        config.dataset.source = {"_target_": f"{GivenImages.__module__}.{GivenImages.__qualname__}"}
    typed = [*program, *typed]
    moment = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    folder = Path("outputs", config.name, moment) if out is None else Path(out).expanduser()
    pipeline.run(plan, folder.absolute(), shlex.join(typed), typed, f"{config.name}-s{config.seed}", "")
    return load(folder / "sets" / method)


def evaluate(
    data: DistilledSet | str | Path,
    students: Sequence[str] = ("convnet3",),
    *,
    dataset: Any = None,
    protocol: str = "dm",
    seeds: int | Sequence[int] = 3,
    epochs: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Train students on a distilled set and measure each once on real test images.

    UserError if something that was given cannot be used, StageFailed if a student diverged.

    Args:
        students: networks by name.
        dataset: whose test images are used, as for :func:`distill`; of a torch Dataset, all its images. None: the data set that
            the set was made from.
        protocol: the name of one in ``conf/evaluation/default.yaml``, such as ``dm`` (hard labels) or ``paper`` (soft labels).
        seeds: a number of students, or their seeds.
        epochs: None: the protocol's.
        settings: further keys of the command line, such as ``{"evaluation.batch_size": 25, "dataset.root": "/data/cifar10"}``.

    Returns:
        A row for each student: top-1 accuracy and macro-F1 in percent, mean and standard deviation of the former over the seeds.
    """
    data = data if isinstance(data, DistilledSet) else load(data)
    folder, spec, about = data.folder, data.folder.spec, data.description
    words: dict[str, Any] = {"evaluation.students": list(students), "evaluation.protocol": protocol}
    words |= {"evaluation.seeds": seeds, "evaluation.epochs": epochs, "synthesis.ipc": data.ipc, **(settings or {})}
    if dataset is None and spec.name not in options("dataset"):
        raise UserError(f"the data set {spec.name} cannot be found; give one with test images as dataset=….")
    named = _named(dataset or spec.name) if isinstance(dataset, str | Path | None) else {}
    if "dataset.root" in named:
        named |= {"dataset.size": spec.size, "dataset.channels": spec.channels}
    config, _ = _compose({**named, **words})
    if named:
        real = factory.dataset_of(config, make_plan(config).source)
        images, name, classes = real.loaded.test, real.fingerprint, len(real.loaded.class_ids)
    else:
        images = read_images(dataset, spec.channels, spec.size)
        name, classes = digest(images), max(spec.num_classes, int(images.labels.max()) + 1)
    found, wanted = (classes, *images.take([0]).shape[1:]), (spec.num_classes, spec.channels, spec.size, spec.size)
    if found != wanted:
        raise UserError(f"the set has classes and images {wanted}, not {found}; give the one that it was made from.")
    device_config, store = factory.device_config_of(config), ArtifactStore(Path(config.store))
    view, seed = about.labels.view, about.labels.seed
    planned = factory.students(config, folder, data.labels_for(device_config))
    planned = [dataclasses.replace(one, view=view, view_seed=seed) for one in planned]
    split, method = EvalSplit("", {"test": name}, lambda: images), about.method.name
    with StageProgress("evaluation", sum(one.protocol.epochs for one in planned), "epochs") as progress:
        where = device_config, RunLog(store.root), progress, method
        made = [train_student(store, split, folder, one, *where) for one in planned]
    common = {"dataset": spec.name, "method": method, "ipc": data.ipc, "protocol": protocol}
    table = pd.DataFrame(
        {**common, "labels": one.labels.kind, "student": one.network, "seed": one.seed, **artifact.facts}
        for one, artifact in zip(planned, made, strict=True)
    )
    scores = table.groupby(["labels", "student"])["top1"]
    return table.assign(mean=scores.transform("mean"), std=scores.transform("std"))


def _named(dataset: str | Path) -> dict[str, Any]:
    """The keys of a data set by its name, or of a folder of images."""
    if str(dataset) in options("dataset"):
        return {"dataset": str(dataset)}
    folder = Path(dataset).expanduser()
    if not folder.is_dir():
        names = ", ".join(options("dataset"))
        raise UserError(f"dataset={dataset} is neither a folder nor one of {names}; correct it.")
    return {"dataset": "imagefolder", "dataset.root": str(folder.absolute()), "dataset.name": folder.name}


def _compose(words: Mapping[str, Any]) -> tuple[TeddyConfig, list[str]]:
    """The checked configuration of one run, and the words that a command line would have for it."""
    if any(key.startswith(("hydra", "sweep", "search", "+", "~")) for key in words):
        raise UserError("settings are keys of one run; sweeps, searches and hydra's own keys are for the command line.")
    typed = [word_of("+" * (key == "experiment") + key, value) for key, value in words.items()]
    try:
        register_schemas()
        (config,) = check_jobs(Command(tuple(typed), {}))
    except Exception as error:
        if not is_about_config(error):
            raise
        raise UserError(sentence(error)) from error
    if config.trainer.devices * config.trainer.num_nodes > 1:
        raise UserError("several devices need several processes; set trainer.devices=1, or use the command line.")
    return config, typed
