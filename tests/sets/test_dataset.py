"""The torch Dataset of a set: an own loop sees bit for bit what the students of the run saw."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from teddy import factory
from teddy.artifacts.store import ArtifactStore
from teddy.config.command import check_jobs, read_command
from teddy.config.errors import UserError
from teddy.config.schema import register_schemas
from teddy.data.tiles import decode_tiles
from teddy.evaluation.stage import Classification
from teddy.invocation import Invocation
from teddy.models.networks import build_network
from teddy.plan import make_plan
from teddy.runtime.device import DeviceConfig
from teddy.runtime.loggers import RunLog
from teddy.sets.dataset import DistilledSet
from teddy.sets.description import TeacherFacts
from teddy.sets.folder import open_set
from tests.conftest import SHORT

WORDS = ("+experiment=quickstart", *SHORT, "method=[random]", "synthesis.ipc=2", "stages=[pool,synthesis,labels]")
KINDS = {
    "stored": ("labels=stored",),
    "top_k": ("labels=stored", "labels.top_k=3"),
    "online": ("labels=online",),
    "fixed": ("labels=fixed",),
    "hard": ("labels=hard",),
    "tiles": ("labels=online", "method=[mosaic]"),
    "pruned": ("labels=online", "pool=post", "pool.size=2"),
}

Run = Callable[[str], tuple[Invocation, DistilledSet]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run the pipeline up to the labels of one kind, and open the set that it wrote."""
    place, made = tmp_path_factory.mktemp("runs"), {}

    def once(kind: str) -> tuple[Invocation, DistilledSet]:
        if kind not in made:
            register_schemas()
            (config,) = check_jobs(read_command([*WORDS, *KINDS[kind]]))
            plan = make_plan(config)
            dataset, folder = factory.dataset_of(config, plan.source), place / kind
            folder.mkdir()
            device_config = factory.device_config_of(config)
            one = Invocation(plan, folder, ArtifactStore(place / "store"), dataset, device_config, RunLog(folder))
            one.run("python -m teddy", [])
            (name,) = plan.methods
            made[kind] = one, DistilledSet(open_set(folder / "sets" / name))
        return made[kind]

    return once


def students_batches(invocation: Invocation, epoch: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Indices, views and targets of a student's epoch, from the data module that the evaluation stage trains on."""
    ((name, images),) = invocation.images.items()
    (student,) = factory.students(invocation.config, images, invocation.labels.get(name))
    split = factory.eval_split(invocation.config, invocation.dataset)
    network = build_network("convnet2_w8", 10, 1, 28)
    data, _ = Classification().fit(student, network, images, split, DeviceConfig("cpu", "32-true"), 0)
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [(indices, *data.on_after_batch_transfer((epoch, indices), 0)) for _, indices in loader]


@pytest.mark.parametrize("kind", KINDS)
def test_an_own_loop_sees_what_the_students_saw(run: Run, kind: str) -> None:
    invocation, data = run(kind)
    for epoch in (0, 2, 4):  # of three that are stored
        data.set_epoch(epoch)
        for indices, views, targets in students_batches(invocation, epoch):
            found = data.__getitems__(indices.tolist())
            assert torch.equal(torch.stack([view for view, _ in found]), views)
            assert torch.equal(torch.stack([target for _, target in found]), targets)
            for index, view, target in zip(indices.tolist()[:2], views, targets, strict=False):
                assert torch.equal(data[index][0], view)
                assert torch.equal(data[index][1], target)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_students_loss(run: Run, kind: str) -> None:
    invocation, data = run(kind)
    logits = torch.randn(len(data), 10, generator=torch.Generator().manual_seed(0))
    targets = torch.stack([target for _, target in data.__getitems__(range(len(data)))])
    temperature = invocation.config.labels.temperature
    log_p = (logits / (1 if kind == "hard" else temperature)).double().log_softmax(1)
    p = targets.double() if kind in ("hard", "fixed") else (targets.double() / temperature).softmax(1)
    expected = (p * (p.clamp(min=1e-30).log() - log_p)).sum(1).mean()
    if kind == "hard":
        expected = -(p * log_p).sum(1).mean()
    assert data.loss(logits, targets).item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-7)


def test_a_plain_loader_with_and_without_workers_gives_every_view_once(run: Run) -> None:
    _, data = run("stored")
    kept = DataLoader(data, batch_size=4, num_workers=1, persistent_workers=True)
    for epoch in (1, 2):
        data.set_epoch(epoch)
        whole = torch.stack([view for view, _ in data.__getitems__(range(len(data)))])
        views = torch.cat([views for views, _ in DataLoader(data, batch_size=6, shuffle=True)])
        assert torch.equal(views.flatten(1).sum(1).sort().values, whole.flatten(1).sum(1).sort().values)
        assert torch.equal(torch.cat([views for views, _ in kept]), whole), "a process that lives on sees the epoch"


def test_a_set_goes_to_another_process_whole(run: Run) -> None:
    for kind in KINDS:
        _, data = run(kind)
        data.set_epoch(1)
        _ = data[0]
        again = pickle.loads(pickle.dumps(data))
        assert torch.equal(again[3][0], data[3][0])
        assert torch.equal(again[3][1], data[3][1])


def test_what_a_set_says_of_itself(run: Run) -> None:
    invocation, data = run("stored")
    spec = invocation.dataset.spec
    assert (data.class_names, data.mean, data.std) == (list(spec.class_names), list(spec.mean), list(spec.std))
    assert (data.ipc, data.temperature, len(data)) == (2, invocation.config.labels.temperature, 20)
    assert (data.images.dtype, tuple(data.images.shape)) == (torch.uint8, (20, 1, 28, 28))
    assert data.labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert data.description.command == "python -m teddy"
    test = invocation.dataset.test.take([0, 1])
    assert torch.equal(data.normalise(test), spec.normalise(test))
    with pytest.raises(IndexError):
        _ = data[20]


def test_tiles_are_seen_enlarged(run: Run) -> None:
    invocation, data = run("tiles")
    images = next(iter(invocation.images.values()))
    assert data.description.tiles == 2
    assert len(data) == 80
    pngs = images.folder.parent / "images"
    assert len(list(pngs.rglob("*.png"))) == 20
    assert torch.equal(data.images, images.images.images)
    assert len(list((data.folder.path / "decoded_images").rglob("*.png"))) == 80
    assert decode_tiles(data.images[:1], 1).shape == (1, 1, 28, 28)


def test_a_teacher_that_does_not_fit_the_memory_is_refused_before_it_is_built(run: Run) -> None:
    _, data = run("online")
    huge = TeacherFacts("convnet3_w999999", 1, 0.0, "teachers/00.safetensors")
    about = replace(data.description, labels=replace(data.description.labels, teachers=[huge]))
    with pytest.raises(UserError, match="convnet3_w999999"):
        _ = DistilledSet(replace(data.folder, description=about))[0]


@pytest.mark.parametrize("content", [[["no.such", True, [0]]], [["features.0", True, [10**9]]], {"a": 1}, []])
def test_teachers_that_do_not_fit_end_in_one_sentence(run: Run, tmp_path: Path, content: object) -> None:
    _, data = run("pruned")
    shutil.copytree(data.folder.path, tmp_path / "set")
    (tmp_path / "set/teachers/00.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"teachers of .*/set cannot be loaded") as caught:
        _ = DistilledSet(replace(data.folder, path=tmp_path / "set"))[0]
    assert "\n" not in str(caught.value)


def test_images_with_boxes_are_no_classes(run: Run) -> None:
    _, data = run("stored")
    boxes = replace(data.description.dataset, boxes="images/annotations.json")
    with pytest.raises(UserError, match=r"annotations\.json"):
        DistilledSet(replace(data.folder, description=replace(data.description, dataset=boxes)))


def test_a_set_is_moved_without_its_store(run: Run, tmp_path: Path) -> None:
    _, data = run("online")
    shutil.copytree(data.folder.path, tmp_path / "moved")
    moved = DistilledSet(open_set(tmp_path / "moved"))
    data.set_epoch(0)
    assert torch.equal(moved[5][1], data[5][1])
