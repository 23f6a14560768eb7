import statistics

import pandas as pd
import pytest

from teddy.report.comparison import compare, summarize, varied_keys
from teddy.report.results_log import Result
from teddy.report.runs import read_runs

TEACHERS = "synthesis.teachers_per_block"


def summary(rows):
    return list(summarize(pd.DataFrame([Result(**row) for row in rows])).itertuples())


@pytest.mark.parametrize("top1", [[60.0, 62.0, 64.0], [1.5, 2.0], [33.3, 33.4, 35.0, 20.0]])
def test_mean_and_sample_deviation(students, top1):
    (row,) = summary(students("ours", top1))
    assert row.mean == pytest.approx(statistics.fmean(top1))
    assert row.std == pytest.approx(statistics.stdev(top1))
    assert (row.top1, row.seeds) == (top1, len(top1))


def test_different_settings_are_never_averaged(students):
    changes = [
        {},
        {"labels": "hard"},
        {"protocol": "modern"},
        {"student": "vgg"},
        {"ipc": 1},
        {"dataset": "x"},
        {"pool": "p"},
    ]
    rows = summary([row for change in changes for row in students("ours", [2.0], **change)])
    assert len(rows) == 7


def test_costs_and_divergences_are_means_over_the_students_that_have_them(students):
    first, second = students("ours", [1.0, 2.0])
    first |= dict(cost={"pool_seconds": 10.0}, divergence={"epoch 1": 0.5})
    second |= dict(cost={"pool_seconds": 20.0, "labels_mb": 3.0})
    first |= dict(seconds=4.0, peak_memory_mb=100.0)
    second |= dict(seconds=8.0, peak_memory_mb=300.0)
    (row,) = summary([first, second])
    students_own = {"student_seconds": 6.0, "student_peak_memory_mb": 300.0}
    assert row.cost == {"pool_seconds": 15.0, "labels_mb": 3.0} | students_own
    assert row.divergence == {"epoch 1": 0.5}


def test_the_same_student_again_replaces_itself(students):
    (row,) = summary(students("ours", [60.0], "a") + students("ours", [61.0], "a"))
    assert row.top1 == [61.0]
    (row,) = summary(students("ours", [60.0], "a") + students("ours", [61.0], "b"))
    assert (row.top1, row.seeds) == ([60.0, 61.0], 1)


def test_a_method_without_a_title_has_its_name(students):
    (row,) = summary([row | {"title": ""} for row in students("ours", [1.0])])
    assert row.title == "ours"


def test_only_given_keys_that_differ_vary(teachers_sweep):
    # synthesis.lr differs as well, but follows from the number of teachers; experiment is the same in all jobs.
    assert varied_keys(read_runs([teachers_sweep])) == [TEACHERS]


def test_one_row_per_setting_and_the_same_students_once(teachers_sweep):
    comparison = compare(read_runs([teachers_sweep]))
    rows = list(comparison.rows.itertuples())
    found = [(row.method, row.setting[TEACHERS]) for row in rows]
    assert found == [("ours", (1,)), ("ours", (2,)), ("ours", (3,)), ("real", (1, 2, 3))]
    assert [(row.mean, row.std) for row in rows] == [(51.0, 1.0), (54.0, 1.0), (53.0, 2.0), (49.0, 1.0)]
    assert [row.against for row in rows[:3]] == [2.0, 5.0, 4.0]
    assert rows[3].against != rows[3].against  # NaN
    assert comparison.any_of(rows[3], TEACHERS)
    assert [comparison.text(row, TEACHERS) for row in rows] == ["1", "2", "3", "any"]


def test_students_without_fingerprints_are_never_taken_for_the_same(tmp_path, make_run, students):
    for job in range(2):
        make_run(tmp_path / str(job), students("real", [50.0]), overrides={"seed": job})
    assert len(compare(read_runs([tmp_path])).rows) == 2


def test_the_same_students_under_some_settings_only(tmp_path, make_run, students):
    for job in range(3):
        rows = students("ours", [50.0], "few" if job < 2 else "many")
        make_run(tmp_path / str(job), rows, {"labels": {"members": job}}, {"labels.members": job})
    comparison = compare(read_runs([tmp_path]))
    assert [comparison.text(row, "labels.members") for row in comparison.rows.itertuples()] == ["0, 1", "2"]


def test_two_keys_of_which_one_matters(tmp_path, make_run, students):
    for job, (lr, ipc) in enumerate((lr, ipc) for lr in (0.1, 0.2) for ipc in (1, 10)):
        rows = students("ours", [50.0], f"{lr}{ipc}", ipc=ipc) + students("real", [40.0], f"{ipc}", ipc=ipc)
        settings = {"synthesis": {"lr": lr, "ipc": ipc}}
        make_run(tmp_path / str(job), rows, settings, {"synthesis.lr": lr, "synthesis.ipc": ipc})
    comparison = compare(read_runs([tmp_path]))
    found = [(row.method, comparison.text(row, "synthesis.lr"), row.ipc) for row in comparison.rows.itertuples()]
    ours = [("ours", lr, ipc) for lr in ("0.1", "0.2") for ipc in (1, 10)]
    assert found == [*ours, ("real", "any", 1), ("real", "any", 10)]


def test_a_methods_own_keys_matter_to_it_alone(tmp_path, make_run, students):
    key = "methods.ours.iterations"
    jobs = [(1, 1000, ("ours", "other")), (10, 500, ("ours", "real")), (10, None, ("other",)), (10, 1000, ("ours",))]
    for job, (ipc, count, names) in enumerate(jobs):
        rows = [row for name in names for row in students(name, [50.0], f"{job}", ipc=ipc)]
        own = {"methods": {"ours": {"iterations": count}}} if count else {}
        overrides = {"synthesis.ipc": ipc} | ({key: count} if count else {})
        make_run(tmp_path / str(job), rows, {"synthesis": {"ipc": ipc}} | own, overrides)
    few, all_of_them = (compare(read_runs([tmp_path / str(job) for job in range(count)])) for count in (3, 4))
    found = {(row.method, row.ipc): few.text(row, key) for row in few.rows.itertuples()}
    others = {("other", 1): "any", ("other", 10): "any", ("real", 10): "any"}
    assert found == {("ours", 1): "1000", ("ours", 10): "500"} | others
    assert varied_keys([few.runs[0], few.runs[2]]) == ["synthesis.ipc"], "one of them has not got the method"
    assert few.own_keys == all_of_them.own_keys == [key]
    assert few.keys_beside_ipc == [], "the method has one number for each IPC"
    assert all_of_them.keys_beside_ipc == [key]


def test_methods_keep_the_order_in_which_they_were_typed(tmp_path, make_run, students):
    rows = [row for method in ("zeta", "real", "alpha") for row in students(method, [1.0])]
    methods = {name: {"title": name} for name in ("real", "zeta", "alpha")}
    comparison = compare(read_runs([make_run(tmp_path / "a", rows, record={"methods": methods})]))
    assert comparison.rows.method.to_list() == ["real", "zeta", "alpha"]
    assert comparison.first_method(comparison.rows) == "zeta"  # baselines aside
    assert comparison.first_method(comparison.rows[comparison.rows.baseline]) == "real"


def test_runs_of_one_setting_are_one_row(tmp_path, make_run, students):
    one = make_run(tmp_path / "a", students("ours", [60.0], "a"))
    other = make_run(tmp_path / "b", [{**row, "seed": 1} for row in students("ours", [62.0], "b")])
    (row,) = compare(read_runs([one, other])).rows.itertuples()
    assert (row.top1, row.std) == ([60.0, 62.0], statistics.stdev([60.0, 62.0]))


def test_each_pool_meets_its_own_baseline_and_the_only_one_may_stand_in_another_run(tmp_path, make_run, students):
    for name, ours, real in (("prior", 60.0, 40.0), ("post", 50.0, 45.0)):
        rows = students("ours", [ours], name, pool=name) + students("real", [real], name, pool=name)
        make_run(tmp_path / "two" / str(int(name == "post")), rows, {}, {"pool": name})
    rows = compare(read_runs([tmp_path / "two"])).rows
    assert rows[~rows.baseline].against.to_list() == [20.0, 5.0]
    a = make_run(tmp_path / "a", students("other", [60.0]), overrides={"experiment": "x_other"})
    b = make_run(tmp_path / "b", students("real", [50.0]), overrides={"experiment": "x_real"})
    assert compare(read_runs([a, b])).rows.against.to_list()[0] == 10.0


def test_other_labels_are_no_baseline(tmp_path, make_run, students):
    rows = students("ours", [2.0]) + students("real", [1.0], labels="hard")
    assert compare(read_runs([make_run(tmp_path / "a", rows)])).rows.against.isna().all()
