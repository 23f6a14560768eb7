import csv
import io
import statistics

import pytest
from rich.console import Console

from teddy.report.runs import read_runs
from teddy.report.sweep import cells, collect, latex, markdown, rich_table, shared, students_csv, varied_keys


def test_only_given_keys_that_differ_vary(teachers_sweep):
    # synthesis.lr differs as well, but follows from the number of teachers; experiment is the same in all jobs.
    assert varied_keys(read_runs([teachers_sweep])) == ["synthesis.teachers_per_block"]


def test_a_group_of_the_command_line_and_a_default_are_values_too(tmp_path, make_run, students):
    rows = students("teddy", [60.0])
    a = make_run(tmp_path / "a", rows, {"synthesis": {"ipc": 1}}, ["+experiment=x", "store=/a", "hydra.job.name=a"])
    b = make_run(tmp_path / "b", rows, {"synthesis": {"ipc": 50}}, ["synthesis.ipc=50", "store=/b"])
    runs = read_runs([a, b])
    assert varied_keys(runs) == ["experiment", "synthesis.ipc"]
    head, lines = cells(collect(runs))
    assert [line[head.index("experiment")] for line in lines] == ["x", "toy"]  # the second by its name
    assert head.count("IPC") == 1
    assert "synthesis.ipc" not in head  # the column IPC says it


def test_runs_without_overrides_are_told_apart_by_name(tmp_path, make_run, students):
    for name in ("a", "b"):
        make_run(tmp_path / name, students("teddy", [60.0], name), {"name": name})
    sweep = collect(read_runs([tmp_path / "a", tmp_path / "b"]))
    assert dict(sweep.values) == {"name": ("a", "b")}
    assert [row.setting["name"] for row in sweep.rows] == [("a",), ("b",)]


def test_one_row_per_setting_and_the_same_students_once(teachers_sweep):
    sweep = collect(read_runs([teachers_sweep]))
    told = [(row.group.method, row.setting["synthesis.teachers_per_block"]) for row in sweep.rows]
    assert told == [("teddy", (1,)), ("teddy", (2,)), ("teddy", (3,)), ("random", (1, 2, 3))]
    assert [row.group.mean for row in sweep.rows] == [51.0, 54.0, 53.0, 49.0]
    assert [row.group.std for row in sweep.rows] == [1.0, 1.0, 2.0, 1.0]
    assert [row.against for row in sweep.rows] == [2.0, 5.0, 4.0, None]
    assert sweep.any_of(sweep.rows[3], "synthesis.teachers_per_block")
    assert markdown(sweep).splitlines() == [
        "| method | synthesis.teachers_per_block | top-1 % | against random |",
        "| --- | --- | ---: | ---: |",
        "| teddy | 1 | 51.0 ± 1.0 | +2.0 |",
        "| teddy | 2 | 54.0 ± 1.0 | +5.0 |",
        "| teddy | 3 | 53.0 ± 2.0 | +4.0 |",
        "| random | any | 49.0 ± 1.0 |  |",
    ]
    assert shared(sweep) == "labels stored, protocol paper, student convnet3, IPC 10, seeds 3"


def test_students_without_fingerprints_are_never_taken_for_the_same(tmp_path, make_run, students):
    for job in range(2):
        make_run(tmp_path / str(job), students("random", [50.0]), overrides=[f"seed={job}"])
    assert len(collect(read_runs([tmp_path])).rows) == 2


def test_the_same_students_under_some_settings_only(tmp_path, make_run, students):
    for job in range(3):
        rows = students("teddy", [50.0], "few" if job < 2 else "many")
        make_run(tmp_path / str(job), rows, {"labels": {"members": job}}, [f"labels.members={job}"])
    head, lines = cells(collect(read_runs([tmp_path])))
    assert [line[head.index("labels.members")] for line in lines] == ["0, 1", "2"]


def test_two_keys_of_which_one_matters(tmp_path, make_run, students):
    jobs = [(lr, ipc) for lr in (0.1, 0.2) for ipc in (1, 10)]
    for job, (lr, ipc) in enumerate(jobs):
        rows = students("teddy", [50.0], f"{lr}{ipc}", ipc=ipc) + students("random", [40.0], f"{ipc}", ipc=ipc)
        settings = {"synthesis": {"lr": lr, "ipc": ipc}}
        make_run(tmp_path / str(job), rows, settings, [f"synthesis.lr={lr}", f"synthesis.ipc={ipc}"])
    head, lines = cells(collect(read_runs([tmp_path])))
    picked = [[line[head.index(name)] for name in ("method", "synthesis.lr", "IPC")] for line in lines]
    assert picked == [
        ["teddy", "0.1", "1"],
        ["teddy", "0.1", "10"],
        ["teddy", "0.2", "1"],
        ["teddy", "0.2", "10"],
        ["random", "any", "1"],
        ["random", "any", "10"],
    ]


def test_students_that_a_key_names_have_their_column_already(tmp_path, make_run, students):
    for job, name in enumerate(("vgg", "resnet")):
        settings = {"evaluation": {"students": [name]}}
        make_run(
            tmp_path / str(job),
            students("teddy", [50.0], name, student=name),
            settings,
            [f"evaluation.students=[{name}]"],
        )
    lines = markdown(collect(read_runs([tmp_path]))).splitlines()
    assert lines[0] == "| method | student | top-1 % |"
    assert sorted(lines[2:]) == ["| teddy | resnet | 50.0 |", "| teddy | vgg | 50.0 |"]


def test_labels_of_several_sizes_have_a_column_for_it(tmp_path, make_run, students):
    for job, (top_k, size) in enumerate(((None, 0.2), (3, 0.11))):
        rows = students("teddy", [50.0], f"{job}", cost={"labels_mb": size})
        rows += students("teddy", [40.0], "hard", cost={"labels_mb": size}, labels="hard")
        word = "null" if top_k is None else top_k
        make_run(tmp_path / str(job), rows, {"labels": {"top_k": top_k}}, [f"labels.top_k={word}"])
    sweep = collect(read_runs([tmp_path]))
    assert sweep.values == {"labels.top_k": ("all", 3)}
    assert markdown(sweep).splitlines() == [
        "| method | labels.top_k | labels | labels MB | top-1 % |",
        "| --- | --- | --- | ---: | ---: |",
        "| teddy | any | hard |  | 40.0 |",
        "| teddy | all | stored | 0.2 | 50.0 |",
        "| teddy | 3 | stored | 0.11 | 50.0 |",
    ]


def test_beside_iterations_stands_the_time_that_was_spent_before_the_students(tmp_path, make_run, students):
    known = {"pool_seconds": 100.0, "labels_seconds": 7.0}
    for iterations in (100, 500):
        cost = {**known, "synthesis_seconds": iterations / 5}
        rows = students("teddy", [50.0], f"{iterations}", cost=cost)
        rows += students("teddy", [40.0], f"hard {iterations}", cost=cost, labels="hard")
        rows += students("random", [30.0], "random", cost=known)
        rows += students("random", [20.0], "random, hard", cost=known, labels="hard")
        words = [f"synthesis.iterations={iterations}"]
        make_run(tmp_path / str(iterations), rows, {"synthesis": {"iterations": iterations}}, words)
    head, lines = cells(collect(read_runs([tmp_path])))
    shown = [head.index(name) for name in ("method", "synthesis.iterations", "labels", "seconds")]
    found = {tuple(line[place] for place in shown) for line in lines}
    assert found == {
        ("teddy", "100", "stored", "127"),
        ("teddy", "500", "stored", "207"),
        ("teddy", "100", "hard", "120"),
        ("teddy", "500", "hard", "200"),
        ("random", "any", "stored", "107"),
        ("random", "any", "hard", "0"),
    }


def test_a_baseline_with_iterations_of_its_own_has_the_time_beside_it_too(tmp_path, make_run, students):
    rows = students("teddy", [50.0], cost={"pool_seconds": 9.0, "synthesis_seconds": 1.0, "labels_seconds": 2.0})
    for job, iterations in enumerate((None, 1000)):
        make_run(tmp_path / str(job), rows, {"baselines": {"sre2l": {"iterations": iterations}}})
        head, lines = cells(collect(read_runs([tmp_path / str(job)])))
        assert ("seconds" in head) == (iterations is not None)
    assert lines[0][head.index("seconds")] == "12"


def test_runs_of_one_setting_are_one_row(tmp_path, make_run, students):
    one = make_run(tmp_path / "a", students("teddy", [60.0], "a"))
    other = make_run(tmp_path / "b", [{**row, "seed": 1} for row in students("teddy", [62.0], "b")])
    (row,) = collect(read_runs([one, other])).rows
    assert (row.group.top1, row.group.std) == ((60.0, 62.0), statistics.stdev([60.0, 62.0]))


def test_the_only_random_baseline_may_stand_in_another_run(tmp_path, make_run, students):
    a = make_run(tmp_path / "a", students("sre2l", [60.0]), overrides=["+experiment=x_sre2l"])
    b = make_run(tmp_path / "b", students("random", [50.0]), overrides=["+experiment=x_random"])
    first, second = collect(read_runs([a, b])).rows
    assert (first.group.method, first.against, second.against) == ("sre2l", 10.0, None)


def test_the_paper_stands_beside_its_own_ipc_only(tmp_path, make_run, students):
    paper = {"teddy/convnet3/paper/ipc10": [53.0, 0.4]}
    for job, ipc in enumerate((1, 10)):
        settings = {"synthesis": {"ipc": ipc}, "paper": paper}
        make_run(tmp_path / str(job), students("teddy", [50.0], ipc=ipc), settings, [f"synthesis.ipc={ipc}"])
    lines = markdown(collect(read_runs([tmp_path]))).splitlines()
    assert lines[0] == "| method | IPC | top-1 % | paper |"
    assert lines[2:] == ["| teddy | 1 | 50.0 |  |", "| teddy | 10 | 50.0 | 53.0 ± 0.4 |"]


def test_latex_has_the_rows_and_the_best_in_bold(teachers_sweep):
    text = latex(collect(read_runs([teachers_sweep])), "toy")
    assert r"teddy & 2 & \textbf{54.0 $\pm$ 1.0} & $+5.0$ \\" in text
    assert text.count(r"\textbf") == 1
    assert r"method & synthesis.teachers\_per\_block & top-1 \% & against random \\" in text
    assert text.splitlines()[0].startswith("% toy, labels stored")


def test_the_csv_has_every_student_with_its_setting(teachers_sweep):
    rows = list(csv.DictReader(io.StringIO(students_csv(collect(read_runs([teachers_sweep]))))))
    assert len(rows) == 3 * 6
    ours = [row for row in rows if row["method"] == "teddy" and row["synthesis.teachers_per_block"] == "3"]
    assert [float(row["top1"]) for row in ours] == [51.0, 53.0, 55.0]
    assert {row["run"] for row in ours} == {"2"}


@pytest.mark.parametrize("methods", [("sre2l", "random"), ("random",)])
def test_without_teddy_everything_works(tmp_path, make_run, students, methods):
    for job in range(2):
        rows = [row for method in methods for row in students(method, [50.0 + job], f"{job}")]
        make_run(tmp_path / str(job), rows, {"seed": job}, [f"seed={job}"])
    sweep = collect(read_runs([tmp_path]))
    assert [row.group.method for row in sweep.rows] == list(methods) * 2
    Console(file=io.StringIO()).print(rich_table(sweep, "toy"))
    assert latex(sweep)
