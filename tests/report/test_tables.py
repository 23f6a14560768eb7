import csv
import io
import json
import re

import pandas as pd
import pytest
from rich.console import Console

from teddy.report.comparison import compare
from teddy.report.runs import read_runs
from teddy.report.tables import condense, differences, ipc_table, latex, markdown, show, students_csv, text_table

UNESCAPED = {
    r"\&": "&",
    r"\%": "%",
    r"\_": "_",
    r"\{": "{",
    r"\}": "}",
    r"\#": "#",
    r"\textbackslash ": "\\",
    r"\textasciitilde ": "~",
    r"\textasciicircum ": "^",
    r"$\pm$": "±",
    r"\space ": " ",
    r"\textless{}": "<",
}


def parse(text):
    """The cells of a tabular, its column kinds, the numbers of rows below a rule, and the bold cells."""
    kinds = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)[1]
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows, ruled, bold = [], [], []
    for line in body.splitlines()[1:]:
        if line == r"\midrule":
            ruled.append(len(rows) - 1)
            continue
        assert line.endswith(r" \\")
        cells = re.split(r"(?<!\\) ?& ?", line.removesuffix(r" \\"))
        for index, cell in enumerate(cells):
            if match := re.fullmatch(r"\\textbf\{(.*)\}", cell):
                cells[index] = match[1]
                bold.append((len(rows) - 1, index))
        cells = [re.sub(r"^\$([+-].*)\$$", r"\1", cell) for cell in cells]
        for sign, letter in UNESCAPED.items():
            cells = [cell.replace(sign, letter) for cell in cells]
        rows.append([cell.strip() for cell in cells])
    return rows, kinds, ruled, bold


@pytest.fixture
def odd_run(tmp_path, make_run, students):
    """Names with every letter that LaTeX treats specially, and two protocols."""
    rows = students("a_b & 50%", [60.0, 62.0], student="vgg{11} # ~ ^ \\") + students(
        "real", [70.0, 72.0], student="vgg{11} # ~ ^ \\"
    )
    rows += students("a_b & 50%", [60.0, 60.1], protocol="x<y")
    return compare(read_runs([make_run(tmp_path / "odd", rows)]))


def test_accuracies_stand_side_by_side_by_ipc(tmp_path, make_run, students):
    """As in the paper's tables: a line for each method under each setting, a column for each IPC in ascending order."""
    for job, (ipc, initial, methods) in enumerate(
        [(10, "real", ("ours", "real", "other")), (1, "real", ("ours", "real")), (1, "noise", ("ours",))]
    ):
        rows = [row for name in methods for row in students(name, [40.0 + job, 42.0 + job], f"{job}", ipc=ipc)]
        settings = {"synthesis": {"ipc": ipc, "initial": initial}}
        overrides = {"synthesis.ipc": ipc, "synthesis.initial": initial}
        paper = {"paper": {f"toy/ours/convnet3/paper/ipc{ipc}": [50.04, 0.3]}}
        make_run(tmp_path / str(job), rows, settings, overrides, paper)
    comparison = compare(read_runs([tmp_path]))
    table = ipc_table(comparison)
    assert list(table) == ["method", "labels", "protocol", "IPC 1", "IPC 10", "synthesis.initial"]
    assert [list(line) for line in table.drop(columns=["labels", "protocol"]).to_numpy()] == [
        ["ours", "42.0 ± 1.4 (50.0)", "41.0 ± 1.4 (50.0)", "real"],
        ["real", "42.0 ± 1.4", "41.0 ± 1.4", "real"],
        ["other", "", "41.0 ± 1.4", "real"],
        ["ours", "43.0 ± 1.4 (50.0)", "", "noise"],
    ]
    alone = compare(read_runs([tmp_path / "1", tmp_path / "2"]))
    assert ipc_table(alone).empty, "one IPC needs no column of its own"


def test_a_varied_key_may_have_the_name_of_a_column(tmp_path, make_run, students):
    """``labels`` is a column of every table and a group of the configuration."""
    for job, (ipc, labels) in enumerate([(1, "hard"), (10, "hard"), (1, "stored"), (10, "stored")]):
        rows = students("ours", [40.0, 42.0], f"{job}", ipc=ipc, labels=labels)
        make_run(tmp_path / str(job), rows, {"synthesis": {"ipc": ipc}}, {"synthesis.ipc": ipc, "labels": labels})
    table = ipc_table(compare(read_runs([tmp_path])))
    assert list(table.labels) == ["hard", "stored"]
    assert [list(line) for line in table[["IPC 1", "IPC 10"]].to_numpy()] == [["41.0 ± 1.4"] * 2] * 2


def test_the_table_of_a_sweep(teachers_sweep):
    shared, table = condense(text_table(compare(read_runs([teachers_sweep]))))
    assert markdown(table).splitlines() == [
        "| method | synthesis.teachers_per_block | labels | protocol | top-1 % | against random |",
        "| --- | --- | --- | --- | ---: | ---: |",
        "| ours | 1 | stored | paper | 51.0 ± 1.0 | +2.0 |",
        "| ours | 2 | stored | paper | 54.0 ± 1.0 | +5.0 |",
        "| ours | 3 | stored | paper | 53.0 ± 2.0 | +4.0 |",
        "| real | any | stored | paper | 49.0 ± 1.0 |  |",
    ]
    assert shared == ["student convnet3", "IPC 10", "seeds 3"]


def test_the_paper_s_number_belongs_to_the_very_setting(table_of, students):
    paper = {"toy/ours/resnet18/paper/ipc10": [34.1, 0.14], "toy/ours/resnet18/modern/ipc10": [50.0], "ours": [1.0]}
    changes = [{"protocol": "paper"}, {"protocol": "modern"}, {"ipc": 50}, {"student": "vgg"}, {"dataset": "other"}]
    rows = [row for change in changes for row in students("ours", [1.0], **{"student": "resnet18", **change})]
    table = table_of(rows, paper=paper)
    found = {tuple(row[key] for key in ("dataset", "protocol", "IPC", "student")): row["paper"] for row in table}
    assert found.pop(("toy", "paper", "10", "resnet18")) == "34.1 ± 0.1"
    assert found.pop(("toy", "modern", "10", "resnet18")) == "50.0"
    assert len(found) == 3
    assert set(found.values()) == {""}


def test_one_seed_shows_no_spread_and_repeats_are_told(table_of, students):
    assert table_of(students("ours", [60.0]))[0]["top-1 %"] == "60.0"
    (row,) = table_of(students("ours", [60.0, 61.0], "a") + students("ours", [70.0, 71.0], "b"))
    assert row["seeds"] == "4 runs of 2"


def test_a_difference_that_rounds_to_nothing_has_no_minus(table_of, students):
    for gain, text in ((-0.04, "+0.0"), (0.04, "+0.0"), (-0.06, "-0.1"), (1.24, "+1.2")):
        assert table_of(students("ours", [50 + gain]) + students("real", [50.0]))[0]["against random"] == text


@pytest.mark.parametrize("key", ["pool", "labels", "seed", "teachers"])
def test_no_two_columns_have_the_same_name(tmp_path, make_run, students, key):
    for job, name in enumerate(("prior", "post")):
        rows = students("ours", [50.0], name, pool=f"{name} 1-6 (6)")
        make_run(tmp_path / str(job), rows, {}, {key: name})
    comparison = compare(read_runs([tmp_path]))
    table = text_table(comparison)
    assert table.columns.is_unique
    column = f"{key} (config)" if key in ("labels", "teachers") else key
    assert table[column].to_list() == ["prior", "post"]
    assert table["teachers"].to_list() == ["prior 1-6 (6)", "post 1-6 (6)"]
    head = next(csv.reader(io.StringIO(students_csv(comparison))))
    assert len(set(head)) == len(head)


def test_a_pool_that_only_one_method_has_is_no_column(table_of, students):
    assert "teachers" not in table_of(students("ours", [60.0]) + students("real", [40.0], pool="none"))[0]


def test_students_and_ipc_that_a_key_names_have_their_column_already(tmp_path, make_run, students):
    for job, (name, ipc) in enumerate((("vgg", 1), ("resnet", 50))):
        settings = {"evaluation": {"students": [name]}, "synthesis": {"ipc": ipc}}
        overrides = {"evaluation.students": f"[{name}]", "synthesis.ipc": ipc}
        make_run(tmp_path / str(job), students("ours", [50.0], name, student=name, ipc=ipc), settings, overrides)
    lines = markdown(condense(text_table(compare(read_runs([tmp_path]))))[1]).splitlines()
    assert lines[0] == "| method | labels | protocol | student | IPC | top-1 % |"
    assert sorted(lines[2:]) == [
        "| ours | stored | paper | resnet | 50 | 50.0 |",
        "| ours | stored | paper | vgg | 1 | 50.0 |",
    ]


def test_a_default_and_a_name_are_values_too(tmp_path, make_run, students):
    rows = students("ours", [60.0])
    make_run(
        tmp_path / "0", rows, {"labels": {"top_k": None}}, {"experiment": "x", "store": "/a", "hydra.job.name": "a"}
    )
    make_run(tmp_path / "1", rows, {"labels": {"top_k": 3}}, {"labels.top_k": "3", "store": "/b"})
    table = text_table(compare(read_runs([tmp_path])))
    assert table["experiment"].to_list() == ["x", "toy"]  # the second by its name
    assert table["labels.top_k"].to_list() == ["all", "3"]
    assert "store" not in table
    for name in ("a", "b"):
        make_run(tmp_path / name, students("ours", [60.0], name), {"name": name})
    assert text_table(compare(read_runs([tmp_path / "a", tmp_path / "b"])))["name"].to_list() == ["a", "b"]


def test_labels_of_several_sizes_have_a_column_for_it(tmp_path, make_run, students):
    for job, size in enumerate((0.2, 0.11)):
        rows = students("ours", [50.0], f"{job}", cost={"labels_mb": size})
        rows += students("ours", [40.0], "hard", cost={"labels_mb": size}, labels="hard")
        make_run(tmp_path / str(job), rows, {"labels": {"epochs": job}}, {"labels.epochs": job})
    table = text_table(compare(read_runs([tmp_path])))
    assert table[["labels", "labels MB"]].to_numpy().tolist() == [["hard", ""], ["stored", "0.2"], ["stored", "0.11"]]


def test_beside_iterations_stands_the_time_before_the_students(tmp_path, make_run, students):
    known = {"pool_seconds": 100.0, "labels_seconds": 7.0}
    for iterations in (100, 500):
        cost = {**known, "synthesis_seconds": iterations / 5}
        rows = students("ours", [50.0], f"{iterations}", cost=cost)
        rows += students("ours", [40.0], f"hard {iterations}", cost=cost, labels="hard")
        rows += students("real", [30.0], "real", cost=known) + students(
            "real", [20.0], "hard", cost=known, labels="hard"
        )
        rows += students("other", [10.0], f"{iterations}")
        overrides = {"synthesis.iterations": iterations}
        make_run(tmp_path / str(iterations), rows, {"synthesis": {"iterations": iterations}}, overrides)
    table = text_table(compare(read_runs([tmp_path])))
    shown = table[["method", "synthesis.iterations", "labels", "seconds"]].apply(tuple, axis=1)
    assert set(shown) == {
        ("ours", "100", "stored", "127"),
        ("ours", "500", "stored", "207"),
        ("ours", "100", "hard", "120"),
        ("ours", "500", "hard", "200"),
        ("real", "any", "stored", "107"),
        ("real", "any", "hard", "0"),
        ("other", "100", "stored", ""),
        ("other", "500", "stored", ""),
    }
    assert "seconds" not in text_table(compare(read_runs([tmp_path / "100"])))


def test_latex_holds_the_same_cells_with_the_best_in_bold(odd_run):
    _, table = condense(text_table(odd_run))
    rows, kinds, ruled, bold = parse(latex(odd_run, "a\nb"))
    assert rows == [list(table), *table.to_numpy().tolist()]
    assert kinds == "llllrr"
    assert ruled == [0, 2]  # below the head, and between the protocols
    assert bold == [(1, 4)]
    first = latex(odd_run, "a\nb").splitlines()[0]
    assert first == r"% a b, IPC 10, seeds 2; needs \usepackage{booktabs}"


def test_columns_of_numbers_are_flush_right_and_bars_are_escaped():
    table = pd.DataFrame({"a": ["1", "-2.5"], "b": ["x|y", "1"], "paper": ["", ""], "c": ["1e-3", ""]})
    assert markdown(table).splitlines()[1] == "| ---: | --- | ---: | --- |"
    assert "x\\|y" in markdown(table)


def test_the_console_shows_the_same_numbers_on_eighty_columns(tmp_path, make_run, students):
    rows = students("ours", [60.0, 62.0, 64.0]) + students("real", [50.0, 52.0, 54.0])
    rows += students("ours", [70.0, 72.0, 74.0], student="vgg[11]")
    folder = make_run(tmp_path / "a", rows, record={"paper": {"toy/ours/convnet3/paper/ipc10": [63.5, 0.25]}})
    screen = Console(file=io.StringIO(), width=80)
    show(folder, title="toy [1]", screen=screen)
    text = screen.file.getvalue()
    lines = [line.split() for line in text.splitlines() if "±" in line]
    assert lines[0] == ["ours", "stored", "paper", "convnet3", "62.0", "±", "2.0", "+10.0", "63.5", "±", "0.2"]
    assert lines[1] == ["real", "stored", "paper", "convnet3", "52.0", "±", "2.0"]
    assert lines[2][3] == "vgg[11]"
    assert text.startswith("toy [1], IPC 10")
    assert "beats random real images by 10.0" in " ".join(text.split())


@pytest.mark.parametrize("width", [80, 60])
def test_a_narrow_console_keeps_method_labels_protocol_and_accuracy_whole(tmp_path, sweep_of, students, width):
    """Of a sweep with so many settings that even their names do not fit."""
    rows = [("a_method", "stored"), ("real", "hard")]
    sweep_of(
        "experiment",
        {"long_name_of_one": [50.0, 52.0], "long_name_of_another": [53.0, 55.0]},
        more=lambda job: [
            row for name, labels in rows for row in students(name, [41.0, 43.0], f"{job}", labels=labels)
        ],
        settings=lambda job: {"pool": {f"key_{name}": 10 * job for name in "abcdefghij"}},
        record=lambda job: {
            "overrides": {"experiment": job, **{f"pool.key_{name}": job for name in "abcdefghij"}},
        },
    )
    screen = Console(file=io.StringIO(), width=width)
    show(tmp_path / "sweep", screen=screen)
    text = screen.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    lines = [line.split()[:6] for line in text.splitlines() if "±" in line]
    assert ["ours", "stored", "paper", "51.0", "±", "1.4"] in lines
    assert ["a_method", "stored", "paper", "42.0", "±", "1.4"] in lines
    assert ["real", "hard", "paper", "42.0", "±", "1.4"] in lines
    words = "".join(text.split())
    assert all(f"key{name}10" in words for name in "abcdefghij"), "what else differs is still told"


def test_the_csv_has_every_student_with_its_setting(teachers_sweep):
    rows = list(csv.DictReader(io.StringIO(students_csv(compare(read_runs([teachers_sweep]))))))
    assert list(rows[0])[:3] == ["run", "synthesis.teachers_per_block", "dataset"]
    assert len(rows) == 3 * 6
    ours = [row for row in rows if row["method"] == "ours" and row["synthesis.teachers_per_block"] == "3"]
    assert [float(row["top1"]) for row in ours] == [51.0, 53.0, 55.0]
    assert {row["run"] for row in ours} == {"2"}
    assert json.loads(ours[0]["cost"])["synthesis_seconds"] == 90.0


def test_jobs_of_two_sweeps_with_one_number_are_told_apart(tmp_path, make_run, students):
    folders = [tmp_path / sweep / "0" for sweep in ("morning", "evening")]
    for ipc, folder in enumerate(folders, start=1):
        settings, overrides = {"synthesis": {"lr": ipc}}, {"synthesis.lr": ipc}
        make_run(folder, students("ours", [50.0], folder.parent.name), settings, overrides)
    comparison = compare(read_runs(folders))
    table = differences(comparison)
    assert list(table) == ["key", "run morning/0", "run evening/0"]
    assert markdown(table).splitlines()[-1] == "| synthesis.lr | 1 | 2 |"
    assert [row["run"] for row in csv.DictReader(io.StringIO(students_csv(comparison)))] == ["morning/0", "evening/0"]
