"""From a configuration to the objects of each stage."""

import dataclasses
import os
import shutil

import pytest
from hydra import compose, initialize_config_dir
from lightning.pytorch.callbacks import Timer

from teddy import factory
from teddy.config.build import build
from teddy.config.command import to_config
from teddy.config.errors import UserError
from teddy.config.paths import config_dir
from teddy.config.schema import register_schemas
from teddy.labels.stage import Labels
from teddy.pool.members import Member, ModelPool


@pytest.fixture
def config():
    """Composes the quick start with some changes."""

    def composed(*overrides):
        register_schemas()
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            return to_config(compose("config", overrides=["+experiment=quickstart", *overrides]))

    return composed


def pool_of(size, spec=None):
    return ModelPool(tuple(Member("convnet3", None, epoch, f"x/{epoch}", 50.0) for epoch in range(size)), spec, "x")


def test_no_more_loader_processes_than_cores(config):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert factory.device_config_of(config("trainer=cpu", "trainer.workers=1000")).workers == cores
    assert factory.device_config_of(config("trainer=cpu", "trainer.workers=0")).workers == 0


def test_the_users_callbacks_are_made_fresh_for_each_fit(config):
    callback = "+trainer.callbacks.stop={_target_:lightning.pytorch.callbacks.Timer,duration:00:01:00:00}"
    make = factory.device_config_of(config("trainer=cpu", callback)).callbacks
    (one,), (other,) = make(), make()
    assert isinstance(one, Timer)
    assert one is not other


def test_labels_are_checked_against_the_classes_of_the_data(config, tmp_path):
    node = config("labels.top_k=10", "dataset.num_classes=null")
    dataset = factory.dataset_of(node, build("dataset.source", node.dataset.source))
    with pytest.raises(UserError, match=r"labels\.top_k=10 must be at least 1 and less than the 10 classes"):
        factory.check_data(node, 1, dataset, tmp_path)
    for top_k in (9, None):
        node.labels.top_k = top_k
        factory.check_data(node, 1, dataset, tmp_path)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["synthesis.ipc=10000000"],
            r"100,000,000 images of 28 x 28 pixels take 78 GB or more, and memory has 2 GB; lower synth",
        ),
        (["pool.training.batch_size=2000"], "a batch of 2,000 training images take 6 GB or more, and memory has 2 GB"),
        (
            ["evaluation.epochs=100000", "synthesis.ipc=1000"],
            "stored labels take 20 GB or more, and the disk of the store has 3 GB; lower labels",
        ),
        (["evaluation.epochs=100000", "synthesis.ipc=1000", "labels.kind=online"], None),
        ([], None),
    ],
)
def test_what_cannot_fit_the_machine_is_refused(config, tmp_path, monkeypatch, words, sentence):
    node = config(*words)
    dataset = factory.dataset_of(node, build("dataset.source", node.dataset.source))
    if "batch_size" in str(words):
        dataset.loaded = dataclasses.replace(dataset.loaded, size=900)
    monkeypatch.setattr(factory, "machine_memory", lambda: 2_000_000_000)
    monkeypatch.setattr(factory.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(3_000_000_000, 0, 0))
    ipc = node.methods["random"]["ipc"]
    if sentence is None:
        factory.check_data(node, ipc, dataset, tmp_path / "new" / "store")
        return
    with pytest.raises(UserError, match=sentence):
        factory.check_data(node, ipc, dataset, tmp_path / "new" / "store")


def test_students_are_protocols_times_networks_times_seeds(config):
    node = config(
        "evaluation.protocol=[paper,dm]",
        "evaluation.students=[convnet3,convnet2]",
        "evaluation.seeds=[3,5]",
        "evaluation.epochs=12",
    )
    soft = Labels("stored", {"kind": "stored"}, source=None)

    class Images:
        images = spec = learned_lr = None
        fingerprint = "abc"

    students = factory.students(node, Images(), soft)
    assert [(one.protocol_name, one.network, one.seed, one.labels.kind) for one in students] == [
        (protocol, network, seed, labels)
        for protocol, labels in (("paper", "stored"), ("dm", "hard"))
        for network in ("convnet3", "convnet2")
        for seed in (3, 5)
    ]
    assert {one.protocol.epochs for one in students} == {12}, "the run's own number of epochs overrules the protocols'"


@pytest.mark.parametrize(
    ("overrides", "epochs"),
    [
        (("evaluation.epochs=12",), 12),
        (("labels.epochs=7",), 7),
        (("evaluation.epochs=null",), 300),
        (
            ("evaluation.epochs=null", "evaluation.protocols.modern.epochs=400", "evaluation.protocol=[paper,modern]"),
            400,
        ),
    ],
)
def test_stored_labels_cover_the_longest_soft_protocol(config, overrides, epochs):
    assert factory.label_recipe(config(*overrides), pool_of(5)).epochs == epochs


def test_a_pool_that_is_smaller_than_the_members_asked_for_labels_as_a_whole(config):
    node = config("labels.members=3")
    assert factory.label_recipe(node, pool_of(5)).members == 3
    assert factory.label_recipe(node, pool_of(1)).members == 1
    assert factory.label_recipe(config("labels.members=all"), pool_of(5)).members is None
