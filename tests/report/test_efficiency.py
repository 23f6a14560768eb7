import numpy as np
import pytest

from teddy.report.efficiency import efficiency
from teddy.report.figures import BLUE
from teddy.report.runs import read_runs
from teddy.report.sweep import collect

SHADE = "#{:02x}{:02x}{:02x}".format(*(round(0.75 * int(BLUE[n : n + 2], 16) + 0.25 * 255) for n in (1, 3, 5)))


def make_sweep(folder, make_run, students, costs, key="synthesis.teachers_per_block"):
    for count, cost in enumerate(costs, start=1):
        rows = students("teddy", [50.0 + count], f"{count}", cost=cost) + students("random", [40.0], "same")
        settings = {"synthesis": {"teachers_per_block": count if key.startswith("synthesis") else 1}}
        make_run(folder / str(count), rows, settings, [f"{key}={count}"])
    return collect(read_runs([folder]))


def cost(pool, synthesis, memory):
    return dict(pool_seconds=pool, synthesis_seconds=synthesis, synthesis_peak_memory_mb=memory)


def test_the_time_is_that_of_pool_and_synthesis_and_the_area_the_memory(tmp_path, make_run, students, pixels_of):
    # 100 s, 200 s and 400 s; 1, 4 and 4 GB.
    costs = [cost(60.0, 40.0, 1000.0), cost(60.0, 140.0, 4000.0), cost(200.0, 200.0, 4000.0)]
    path = efficiency(make_sweep(tmp_path, make_run, students, costs), tmp_path / "figures" / "e.png")
    columns = np.unique(pixels_of(path, SHADE, where=True)[:, 1])
    parts = np.split(columns, np.flatnonzero(np.diff(columns) > 8) + 1)
    assert len(parts) == 3
    middles, widths = [(part[0] + part[-1]) / 2 for part in parts], [np.ptp(part) for part in parts]
    assert (middles[2] - middles[1]) / (middles[1] - middles[0]) == pytest.approx(2.0, abs=0.05)
    assert widths[1] / widths[0] == pytest.approx(2.0, abs=0.1)  # four times the area
    assert widths[2] == pytest.approx(widths[1], abs=2)


def test_without_costs_or_another_number_of_teachers_there_is_none(tmp_path, make_run, students):
    known = [cost(60.0, 40.0, 1000.0)] * 2
    same = make_sweep(tmp_path / "a", make_run, students, known, key="labels.members")
    assert efficiency(same, tmp_path / "a.png") is None
    partly = [{"pool_seconds": 60.0}] * 2
    unknown = make_sweep(tmp_path / "b", make_run, students, partly)
    assert efficiency(unknown, tmp_path / "b.png") is None
