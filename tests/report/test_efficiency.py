import numpy as np
import pytest

from teddy.report.charts import COLOURS, efficiency


def cost(pool, synthesis, memory):
    return dict(pool_seconds=pool, synthesis_seconds=synthesis, synthesis_peak_memory_mb=memory)


@pytest.fixture
def sweep(sweep_of, students):
    """A sweep with these costs of our method, and real images without any."""

    def make(costs, key="synthesis.teachers_per_block"):
        def rows(job):
            return students("other", [50.0], f"{job}", cost=costs[job]) + students("real", [40.0], "same")

        return sweep_of(key, {count: [45.0] for count in range(1, len(costs) + 1)}, more=rows)

    return make


def test_the_position_is_the_time_and_the_area_the_memory(tmp_path, sweep, pixels_of):
    # 100 s, 200 s and 400 s; 1, 4 and 4 GB.
    costs = [cost(60.0, 40.0, 1000.0), cost(60.0, 140.0, 4000.0), cost(200.0, 200.0, 4000.0)]
    path = efficiency(sweep(costs), tmp_path / "figures" / "e.png")
    found = pixels_of(path, COLOURS[0], where=True)
    found = found[found[:, 0] < 550]  # without the legend
    height = np.array([np.sum(found[:, 1] == column) for column in range(found[:, 1].max() + 1)])
    columns = np.flatnonzero(height > 8)  # markers, not the line that joins them
    parts = [part for part in np.split(columns, np.flatnonzero(np.diff(columns) > 8) + 1) if len(part) > 8]
    assert len(parts) == 3
    middles, widths = [(part[0] + part[-1]) / 2 for part in parts], [np.ptp(part) for part in parts]
    assert (middles[2] - middles[1]) / (middles[1] - middles[0]) == pytest.approx(2.0, abs=0.05)
    assert widths[1] / widths[0] == pytest.approx(2.0, abs=0.15)  # four times the area
    assert widths[2] == pytest.approx(widths[1], abs=3)


@pytest.mark.parametrize(
    ("costs", "key"),
    [
        ([cost(60.0, 40.0, 1000.0)] * 2, "labels.members"),
        ([{"pool_seconds": 60.0}, {"pool_seconds": 90.0}], "synthesis.teachers_per_block"),
        ([cost(60.0, 40.0, 1000.0), cost(60.0, 80.0, 1000.0)], "pool"),
    ],
)
def test_without_a_number_that_changes_the_time_there_is_none(tmp_path, sweep, costs, key):
    comparison = sweep(costs, key)
    if key == "pool":
        comparison.values[key] = ["prior", "post"]
    assert efficiency(comparison, tmp_path / "e.png") is None
