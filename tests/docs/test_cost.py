"""The estimates of docs/scaling.md against numbers that were counted by hand, and against the configuration they are for."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir

import cost
from teddy.config.paths import config_dir
from teddy.config.schema import register_schemas

register_schemas()


def test_hours_of_one_gpu() -> None:
    """29 hours for 50,000 images, 4,000 iterations and one teacher; here 10,000, 6,000 and three."""
    found = cost.hours(cost.CDA, ipc=10)
    assert found.synthesis == pytest.approx(29 / 5 * 1.5 * 3)
    # In the same unit: 10,000 x 6,000 x 3 passes; the others by their passes and the share of a pass.
    unit = found.synthesis / (10_000 * 6000 * 3)
    assert found.teachers == pytest.approx(unit * 71 * 1_281_167 * 0.98 * 1.5)
    assert found.labels == pytest.approx(unit * 2 * 10_000 * 300 * 9 / 2)
    assert found.students == pytest.approx(unit * 2 * 3 * 10_000 * 300 * 1.5)
    assert found.total == pytest.approx(found.teachers + found.synthesis + found.labels + found.students)


@pytest.mark.parametrize(
    ("ipc", "gpus", "rounds"), [(10, 8, 13), (10, 64, 2), (50, 64, 8), (100, 64, 16), (100, 1000, 1)]
)
def test_whole_blocks_are_dealt(ipc: int, gpus: int, rounds: int) -> None:
    one, many = cost.hours(1.0, ipc), cost.hours(1.0, ipc, gpus)
    assert many.synthesis == pytest.approx(one.synthesis * rounds / (ipc * 10))
    assert many.labels == one.labels
    assert many.teachers == pytest.approx(one.teachers / 8)


def test_the_numbers_are_those_of_the_experiment() -> None:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("config", overrides=["+experiment=imagenet_ipc10_prior"])
    protocol = config.evaluation.protocols[config.evaluation.protocol]
    pool = config.pool
    assert (pool.training.epochs, (pool.last - pool.first) // pool.every + 1) == (cost.TEACHER_EPOCHS, cost.TEACHERS)
    assert (config.synthesis.iterations, config.synthesis.batch_size) == (cost.ITERATIONS, cost.BLOCK)
    assert config.synthesis.teachers_per_block == cost.PER_BLOCK
    assert (config.dataset.num_classes, config.dataset.holdout) == (cost.CLASSES, cost.HELD_OUT)
    assert (protocol.epochs, config.evaluation.seeds) == (cost.STUDENT_EPOCHS, cost.STUDENTS)
    assert sum("_target_" in node for node in config.methods.values()) == cost.SETS  # others hold numbers alone


def test_labels_on_disk() -> None:
    assert [cost.label_gigabytes(ipc, sets=1) for ipc in (10, 50, 100)] == pytest.approx([6, 30, 60])
