import io
from dataclasses import replace
from itertools import pairwise

import pytest
from rich.console import Console

from teddy.report.ledger import Result
from teddy.report.tables import NAMES, baseline_of, best, difference, group, latex, markdown, rich_table, sentences


def students(method, top1, **changes):
    facts = dict(dataset="cifar10", ipc=10, pool="prior", labels="online", protocol="paper", student="resnet18")
    return [Result(method=method, seed=seed, top1=value, **{**facts, **changes}) for seed, value in enumerate(top1)]


def test_mean_and_sample_deviation_by_hand():
    (item,) = group(students("teddy", [60.0, 62.0, 64.0]))
    assert item.mean == 62.0
    assert item.std == 2.0  # sqrt((4 + 0 + 4) / (3 - 1))
    assert item.accuracy() == "62.0 ± 2.0"


def test_one_seed_shows_no_spread():
    (item,) = group(students("teddy", [60.0]))
    assert item.std is None
    assert item.accuracy() == "60.0"


def test_the_table():
    rows = students("random", [50.0, 52.0]) + students("teddy", [60.0, 62.0, 64.0])
    assert markdown(group(rows), {"teddy/resnet18/paper/ipc10": [63.5]}).splitlines() == [
        "| method | labels | protocol | student | IPC | seeds | top-1 % | against random | paper |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
        "| teddy | online | paper | resnet18 | 10 | 3 | 62.0 ± 2.0 | +11.0 | 63.5 |",
        "| random | online | paper | resnet18 | 10 | 2 | 51.0 ± 1.4 |  |  |",
    ]


def test_teddy_first_random_last_within_protocol_and_student():
    settings = [("paper", "b"), ("modern", "b"), ("paper", "a")]
    rows = [
        row
        for protocol, student in settings
        for method in ("random", "converged", "noise", "sre2l", "teddy")
        for row in students(method, [1.0], protocol=protocol, student=student)
    ]
    order = [(item.protocol, item.student, item.method) for item in group(rows)]
    methods = ["teddy", "sre2l", "converged", "noise", "random"]
    assert order == [(*s, m) for s in [("modern", "b"), ("paper", "a"), ("paper", "b")] for m in methods]


def test_the_paper_s_number_belongs_to_the_very_setting():
    values = {"teddy/resnet18/paper/ipc10": [34.1, 0.14], "teddy/resnet18/modern/ipc10": [50.0], "teddy": [1.0]}
    changes = [{}, {"protocol": "modern"}, {"ipc": 50}, {"student": "vgg"}]
    shown = [group(students("teddy", [1.0], **change))[0].paper(values) for change in changes]
    assert shown == ["34.1 ± 0.1", "50.0", None, None]
    (item,) = group(students("teddy", [1.0]))
    assert item.published(values) == (34.1, 0.14)
    assert item.published({"teddy/resnet18/paper/ipc10": []}) is None


def test_costs_and_divergences_are_means_over_the_students_that_have_them():
    rows = [
        *students("teddy", [1.0], cost={"pool_seconds": 10.0}, divergence={"epoch 1": 0.5}),
        *students("teddy", [1.0], cost={"pool_seconds": 20.0, "labels_mb": 3.0}),
    ]
    (item,) = group([replace(row, seed=seed) for seed, row in enumerate(rows)])
    assert item.cost == {"pool_seconds": 15.0, "labels_mb": 3.0}
    assert item.divergence == {"epoch 1": 0.5}


def test_the_best_of_each_setting_is_bold_in_latex():
    rows = [
        *students("teddy", [60.0, 62.0]),
        *students("random", [70.0, 72.0]),
        *students("teddy", [60.0], protocol="modern"),
    ]
    groups = group(rows)
    assert [groups[place].method for place in best(groups)] == ["random"]
    text = latex(groups, {"teddy/resnet18/paper/ipc10": [63.5, 0.2]})
    assert text.count("textbf") == 1
    assert r"\textbf{71.0 $\pm$ 1.4}" in text
    assert r"61.0 $\pm$ 1.4 & $-10.0$ & 63.5 $\pm$ 0.2 \\" in text
    assert text.count(r"\midrule") == 2  # below the head, and between the protocols


def test_different_labels_protocols_students_and_sizes_are_never_averaged_or_compared():
    changes = [{}, {"labels": "stored"}, {"protocol": "modern"}, {"student": "vgg"}, {"ipc": 1}, {"dataset": "x"}]
    groups = group(
        [row for change in changes for row in students("teddy", [2.0], **change)]
        + students("random", [1.0], labels="hard")
    )
    assert len(groups) == 7
    assert all(baseline_of(item, groups) is None for item in groups if item.method == "teddy")


def test_pools_are_separate_rows_and_each_meets_its_own_baseline():
    rows = [
        *students("teddy", [60.0], pool="prior"),
        *students("teddy", [50.0], pool="post"),
        *students("random", [40.0], pool="prior"),
        *students("random", [45.0], pool="post"),
    ]
    text = markdown(group(rows))
    assert "| teddy | prior | online | paper | resnet18 | 10 | 1 | 60.0 | +20.0 |" in text
    assert "| teddy | post | online | paper | resnet18 | 10 | 1 | 50.0 | +5.0 |" in text


def test_a_pool_that_only_one_method_has_is_no_column():
    rows = students("teddy", [60.0], labels="hard") + students("random", [40.0], labels="hard", pool="none")
    assert "| teddy | hard | paper | resnet18 | 10 | 1 | 60.0 | +20.0 |" in markdown(group(rows))


def test_the_same_student_again_replaces_itself():
    first, again = students("teddy", [60.0]), students("teddy", [61.0])
    (item,) = group(first + again)
    assert item.top1 == (61.0,)


def test_the_same_seed_from_other_artifacts_is_shown_as_such():
    one = students("teddy", [60.0, 61.0], fingerprints={"pool": "a"})
    other = students("teddy", [70.0, 71.0], fingerprints={"pool": "b"})
    (item,) = group(one + other)
    assert item.repeats == 2
    assert "| 4 runs of 2 |" in markdown([item])


@pytest.mark.parametrize(
    ("ours", "random", "verdict"),
    [
        # Both deviations are 1, so the combined spread is sqrt(2).
        ([61.0, 62.0, 63.0], [59.0, 60.0, 61.0], "beats random real images by 2.0 points, more than the spread of 1.4"),
        ([61.0, 62.0, 63.0], [60.0, 61.0, 62.0], "differ by no more than the spread of 1.4"),
        ([60.0, 61.0, 62.0], [61.0, 62.0, 63.0], "differ by no more than the spread of 1.4"),
        (
            [59.0, 60.0, 61.0],
            [61.0, 62.0, 63.0],
            "does not beat random real images here: 60.0 ± 1.0 against 62.0 ± 1.0",
        ),
    ],
)
def test_the_verdict_depends_on_the_spread(ours, random, verdict):
    (sentence,) = sentences(group(students("teddy", ours) + students("random", random)))
    assert verdict in sentence
    assert sentence.startswith("cifar10, IPC 10, resnet18, paper protocol, online labels: ")
    assert "hint" not in sentence


def test_few_seeds_and_a_missing_baseline_are_said():
    (two,) = sentences(group(students("teddy", [60.0, 60.1]) + students("random", [50.0, 50.1])))
    assert "Fewer than 3 seeds" in two
    (one,) = sentences(group(students("teddy", [60.0]) + students("random", [50.0])))
    assert "single run" in one
    assert "spread is unknown" in one
    (alone,) = sentences(group(students("teddy", [60.0, 61.0, 62.0])))
    assert "stands without a baseline" in alone


def test_every_rival_has_its_sentence():
    rows = [row for name in ("teddy", "converged", "noise", "random") for row in students(name, [1.0, 2.0, 3.0])]
    said = sentences(group(rows))
    assert len(said) == 3
    assert all(name in " ".join(said) for name in ("a single converged teacher", "noise", "random real images"))


def test_without_teddy_each_other_method_meets_random_images():
    rows = [row for name in ("sre2l", "converged", "random") for row in students(name, [1.0, 2.0, 3.0])]
    said = sentences(group(rows))
    assert len(said) == 2
    assert "SRe2L and random real images differ by no more" in said[0]
    assert "A single converged teacher and random real images differ" in said[1]
    assert sentences(group(students("random", [1.0]))) == []


def test_every_name_of_a_method_is_said_as_it_is():
    rows = [row for name in NAMES for row in students(name, [1.0, 2.0, 3.0])]
    assert all(name in " ".join(sentences(group(rows))) for name in NAMES.values())


def test_the_console_shows_the_same_numbers_on_eighty_columns():
    rows = students("teddy", [60.0, 62.0, 64.0]) + students("random", [50.0, 52.0, 54.0])
    rows += students("teddy", [70.0, 72.0, 74.0], student="vgg[11]")
    console = Console(file=io.StringIO(), width=80)
    paper = {"teddy/resnet18/paper/ipc10": [63.5, 0.25]}
    console.print(rich_table(group(rows), paper, "cifar10"))
    text = console.file.getvalue()
    lines = [line.split() for line in text.splitlines() if "±" in line]
    assert lines[0] == ["teddy", "resnet18", "3", "62.0", "±", "2.0", "+10.0", "63.5", "±", "0.2"]
    assert lines[1] == ["random", "resnet18", "3", "52.0", "±", "2.0"]
    assert lines[2][1] == "vgg[11]"
    assert text.startswith("cifar10, labels online, protocol paper, IPC 10")


def test_an_empty_table_is_only_its_head():
    assert len(markdown([]).splitlines()) == 2
    assert sentences([]) == []
    Console(file=io.StringIO()).print(rich_table([]))


def test_markdown_rows_have_as_many_cells_as_the_head():
    lines = markdown(group(students("a|b", [1.0]) + students("teddy", [1.0]))).splitlines()
    counts = [line.replace("\\|", "").count("|") for line in lines]
    assert all(one == other for one, other in pairwise(counts))


def test_a_difference_that_rounds_to_nothing_has_no_minus():
    assert [difference(points) for points in (-0.04, 0.04, -0.06, 1.24)] == ["+0.0", "+0.0", "-0.1", "+1.2"]
