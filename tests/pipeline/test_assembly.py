"""From a configuration to the objects of each stage."""

import os

import pytest
from hydra import compose, initialize_config_dir

from teddy import assembly
from teddy.config.command import to_config
from teddy.config.errors import BadInput
from teddy.config.paths import config_dir
from teddy.config.schema import register_schemas
from teddy.labels.stage import Labels
from teddy.pool.members import Member, ModelPool


@pytest.fixture
def config():
    """Composes the quick start with some changes."""

    def composed(*words):
        register_schemas()
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            return to_config(compose("config", overrides=["+experiment=quickstart", *words]))

    return composed


def pool_of(size, spec=None):
    return ModelPool(
        tuple(Member("convnet3", None, epoch, f"x/{epoch}", 50.0, 50.0) for epoch in range(size)), spec, "x"
    )


def test_no_more_loader_processes_than_cores(config):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    words = ("trainer=cpu_float32",)
    assert assembly.compute_of(config(*words, "trainer.workers=1000")).workers == cores
    assert assembly.compute_of(config(*words, "trainer.workers=0")).workers == 0


def test_a_baseline_sees_no_more_teachers_than_its_pool_has(config):
    node = config("synthesis.teachers_per_block=3")
    dataset = assembly.dataset_of(node)
    job = assembly.synthesis_job(node, pool_of(5, dataset.spec), dataset)
    converged = node.baselines["converged"]
    assert assembly.method_job(job, converged, pool_of(1)).teachers_per_block == 1
    converged.teachers_per_block = None
    assert assembly.method_job(job, converged, pool_of(2)).teachers_per_block == 2
    assert assembly.method_job(job, converged, pool_of(5)).teachers_per_block == 3
    assert assembly.method_job(job, converged, pool_of(5)).iterations == job.iterations
    converged.iterations = 4
    assert assembly.method_job(job, converged, pool_of(5)).iterations == 4


def test_labels_are_checked_against_classes_that_only_the_data_know(config):
    node = config("labels.top_k=10", "dataset.num_classes=null")
    dataset = assembly.dataset_of(node)
    with pytest.raises(BadInput, match=r"labels\.top_k=10 must be at least 1 and less than the 10 classes"):
        assembly.check_labels(node, dataset)
    for top_k in (9, None):
        node.labels.top_k = top_k
        assembly.check_labels(node, dataset)


def test_students_are_protocols_times_networks_times_seeds(config):
    node = config(
        "evaluation.protocol=[paper,hard_label]",
        "evaluation.students=[convnet3,convnet2]",
        "evaluation.seeds=[3,5]",
        "evaluation.epochs=12",
    )
    soft = Labels("stored", {"kind": "stored"}, source=None)

    class Images:
        images = spec = None
        fingerprint = "abc"

    students = assembly.students(node, Images(), soft)
    assert [(one.protocol_name, one.network, one.seed, one.labels.kind) for one in students] == [
        (protocol, network, seed, labels)
        for protocol, labels in (("paper", "stored"), ("hard_label", "hard"))
        for network in ("convnet3", "convnet2")
        for seed in (3, 5)
    ]
    assert {one.protocol.epochs for one in students} == {12}, "the run's own number of epochs overrules the protocols'"


@pytest.mark.parametrize(
    ("words", "epochs"),
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
def test_stored_labels_cover_the_longest_soft_protocol(config, words, epochs):
    assert assembly.label_recipe(config(*words), pool_of(5)).epochs == epochs


def test_a_pool_that_is_smaller_than_the_members_asked_for_labels_as_a_whole(config):
    node = config("labels.members=3")
    assert assembly.label_recipe(node, pool_of(5)).members == 3
    assert assembly.label_recipe(node, pool_of(1)).members == 1
    assert assembly.label_recipe(config("labels.members=all"), pool_of(5)).members is None
