import numpy as np
import pytest

from teddy.report.charts import COLOURS, stages
from teddy.report.comparison import compare
from teddy.report.runs import read_runs

BLUE, ORANGE = COLOURS[:2]


@pytest.fixture
def sweep(tmp_path, make_run, students):
    def make(divergences, ipcs=(10,), top1=(50.0, 50.0)):
        for ipc in ipcs:
            for job, divergence in enumerate(divergences):
                rows = students("ours", top1, f"{ipc}{job}", divergence=divergence, ipc=ipc)
                rows += students("real", [40.0], f"{ipc}{job}", divergence={"epoch 1": 9.0}, ipc=ipc)
                settings = {"pool": {"first": job}, "synthesis": {"ipc": ipc}}
                make_run(tmp_path / f"{100 * ipc + job}", rows, settings, {"pool.first": job, "synthesis.ipc": ipc})
        return compare(read_runs([tmp_path]))

    return make


def test_teachers_lie_at_their_epochs_and_the_mean_spans_them(tmp_path, sweep, pixels_of):
    # The same divergence for all teachers of a run: what is drawn is as wide as the epochs, 8 and 16, with a gap of 16.
    runs = [{"epoch 2": 1.0, "epoch 10": 1.0}, {"epoch 26": 2.0, "epoch 42": 2.0}]
    found = pixels_of(stages(sweep(runs), tmp_path / "figures" / "s.png"), BLUE, where=True)
    left = found[(found[:, 1] < 800) & (found[:, 0] < 580)]
    columns = np.unique(left[:, 1])
    parts = np.split(columns, np.flatnonzero(np.diff(columns) > 100) + 1)
    assert len(parts) == 2
    (a, b), (c, d) = ((part[0], part[-1]) for part in parts)
    assert (d - c) / (b - a) == pytest.approx(2.0, abs=0.15)
    assert (c - b) / (b - a) == pytest.approx(2.0, abs=0.25)
    first, second = (left[np.isin(left[:, 1], part)][:, 0].mean() for part in parts)
    assert first > second + 100  # the nearer teachers are lower
    assert (found[:, 1] > 900).any()  # the accuracies at the right


def test_every_ipc_has_its_colour(tmp_path, sweep, pixels_of):
    path = stages(sweep([{"epoch 1": 1.0, "epoch 0.5": 1.1}, {"epoch 3": 1.2}], ipcs=(10, 50)), tmp_path / "s.png")
    assert min(pixels_of(path, BLUE), pixels_of(path, ORANGE)) > 100


def test_one_pool_or_no_divergence_makes_no_picture(tmp_path, sweep):
    assert stages(sweep([{"epoch 1": 1.0}, {"epoch 1": 1.5}]), tmp_path / "s.png") is None
    assert not (tmp_path / "s.png").exists()


def test_names_without_an_epoch_and_infinities_are_passed_over(tmp_path, sweep):
    assert stages(sweep([{"teacher": 1.0}, {"epoch 1": float("inf")}]), tmp_path / "s.png") is None
