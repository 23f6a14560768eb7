import dataclasses

import numpy as np
import pytest
from PIL import Image

from teddy.report.ablation import MAX_SERIES, PAPER, ablation, keys_to_draw, series_of, short_names
from teddy.report.charts import COLOURS, GREY, palette_of
from teddy.report.comparison import compare
from teddy.report.pictures import draw_pictures
from teddy.report.runs import read_runs

BLUE, ORANGE = COLOURS[:2]


@pytest.fixture
def drawn(tmp_path, pixels_of):
    """Draws a chart and finds the (row, column) of the pixels of a colour above the axis, without the legend."""

    def draw(sweep, key, colour=BLUE):
        path = ablation(sweep, key, tmp_path / "figures" / "a.png")
        found = pixels_of(path, colour, where=True)
        return found[found[:, 0] < 0.78 * Image.open(path).height]

    return draw


def apex(places):
    """How far between its ends, from 0 to 1, the highest place of a line lies; markers and whiskers are even."""
    left, right = places[:, 1].min(), places[:, 1].max()
    top = places[places[:, 0] == places[:, 0].min()][:, 1].mean()
    return (top - left) / (right - left)


def level_in(places):
    """The places in rows of which a colour covers much, as a line from edge to edge does and no text."""
    rows, counts = np.unique(places[:, 0], return_counts=True)
    return places[np.isin(places[:, 0], rows[counts > 200])]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ((1, 2, 4), 1 / 3),
        ((0.1, 0.2, 0.3), 1 / 2),
        ((1, 10, 100), 1 / 2),  # a log axis
        ((1, 20, 39), 1 / 2),  # even steps: no log axis, though the ratio is large
        ((1, 4, "all"), 1 / 2),  # a word has a place, no number
    ],
)
def test_points_lie_where_their_numbers_are(sweep_of, drawn, values, wanted):
    sweep = sweep_of("labels.members", dict(zip(values, ([50.0, 50.0], [60.0, 60.0], [50.0, 50.0]), strict=True)))
    assert apex(drawn(sweep, "labels.members")) == pytest.approx(wanted, abs=0.03)


def test_numbers_are_put_in_order(sweep_of, drawn):
    sweep = sweep_of("labels.members", {4: [50.0, 50.0], 1: [60.0, 60.0], 2: [50.0, 50.0]})
    assert apex(drawn(sweep, "labels.members")) < 0.05


def test_whiskers_are_as_long_as_the_deviation(sweep_of, drawn):
    # Words are not joined by a line, so that what is blue is a whisker, a cap or a marker.
    places = drawn(sweep_of("pool", {"prior": [48.0, 52.0], "post": [46.0, 54.0]}), "pool")
    middle = places[:, 1].mean()
    left, right = (np.ptp(side[:, 0]) for side in (places[places[:, 1] < middle], places[places[:, 1] > middle]))
    assert right / left == pytest.approx(2.0, abs=0.05)  # 4√2 against 2√2


def test_students_that_the_key_does_not_change_are_a_level(sweep_of, drawn, students):
    top1 = {1: [50.0, 50.0], 2: [60.0, 60.0]}
    sweep = sweep_of("labels.members", top1, more=lambda job: students("real", [55.0, 55.0], "same"))
    blue, grey = drawn(sweep, "labels.members"), level_in(drawn(sweep, "labels.members", GREY))
    assert np.ptp(grey[:, 0]) <= 4  # one dashed line, halfway between the two points
    assert grey[:, 0].mean() == pytest.approx((blue[:, 0].min() + blue[:, 0].max()) / 2, abs=5)
    assert np.ptp(grey[:, 1]) > np.ptp(blue[:, 1])  # from edge to edge


def test_a_panel_in_which_nothing_depends_on_the_key_is_left_out(tmp_path, sweep_of, students):
    def same(job):
        return students("ours", [30.0], "same", labels="hard", protocol="dm")

    sweep = sweep_of("labels.members", {1: [50.0], 2: [60.0]}, more=same)
    one = ablation(sweep, "labels.members", tmp_path / "a.png")
    assert Image.open(one).width == round(6.4 * 160)
    level = dataclasses.replace(sweep, rows=sweep.rows[sweep.rows.labels == "hard"])
    assert ablation(level, "labels.members", tmp_path / "b.png") is None
    assert not (tmp_path / "b.png").exists()


def test_two_protocols_are_two_panels(sweep_of, students, drawn):
    def harder(job):
        return students("ours", [30.0 + job], f"h{job}", labels="hard", protocol="dm")

    columns = drawn(sweep_of("labels.members", {1: [50.0], 2: [60.0]}, more=harder), "labels.members")[:, 1]
    assert np.diff(np.unique(columns)).max() > 100


def test_the_paper_is_grey_and_hollow_at_its_accuracies(sweep_of, drawn):
    def record(job):
        return {"paper": {"toy/ours/convnet3/paper/ipc10": [52.0 + 6 * job, 0.5]}}

    sweep = sweep_of("labels.members", {1: [50.0, 50.0], 2: [60.0, 60.0]}, record=record)
    grey, blue = drawn(sweep, "labels.members", PAPER), drawn(sweep, "labels.members")
    assert len(level_in(grey)) == 0
    grey = grey[(grey[:, 0] > blue[:, 0].min()) & (grey[:, 0] < blue[:, 0].max())]  # between 50 and 60 %
    ends = (grey[np.abs(grey[:, 1] - end) < 20] for end in (blue[:, 1].min(), blue[:, 1].max()))
    low, high = (end[:, 0].mean() for end in ends)
    assert (low - high) / np.ptp(blue[:, 0]) == pytest.approx(0.6, abs=0.05)


def test_the_paper_is_in_the_legend_wherever_it_is_drawn(tmp_path, sweep_of, students, pixels_of):
    def harder(job):
        return students("ours", [30.0 + job], f"h{job}", labels="hard", protocol="dm")

    with_paper = {"paper": {"toy/ours/convnet3/dm/ipc10": [55.0]}}  # of the first panel
    sweep = sweep_of("labels.members", {1: [50.0], 2: [60.0]}, more=harder, record=lambda job: with_paper)
    path = ablation(sweep, "labels.members", tmp_path / "a.png")
    places = pixels_of(path, PAPER, where=True)
    assert (places[:, 0] > 0.9 * Image.open(path).height).any()


def test_series_at_one_value_do_not_overlap(sweep_of, students, drawn):
    sweep = sweep_of("pool", {"a": [50.0], "b": [50.0]}, more=lambda job: students("other", [50.0], f"{job}"))
    blue, orange = (np.unique(drawn(sweep, "pool", colour)[:, 1]) for colour in (BLUE, ORANGE))
    assert not set(blue) & set(orange)


def test_further_keys_make_series(tmp_path, make_run, students, drawn):
    for job, (count, ipc) in enumerate([(1, 1), (2, 1), (1, 10), (2, 10)]):
        settings = {"labels": {"members": count}, "synthesis": {"ipc": ipc}}
        overrides = {"labels.members": count, "synthesis.ipc": ipc}
        make_run(tmp_path / str(job), students("ours", [50.0 + job], f"{job}", ipc=ipc), settings, overrides)
    sweep = compare(read_runs([tmp_path]))
    assert keys_to_draw(sweep) == ["synthesis.ipc", "labels.members"]
    assert set(series_of(sweep, "labels.members").series) == {"Ours, IPC 1", "Ours, IPC 10"}
    assert min(len(drawn(sweep, "labels.members", colour)) for colour in (BLUE, ORANGE)) > 300


def test_many_lines_have_a_panel_for_each_setting(tmp_path, make_run, students, monkeypatch):
    """The lines of a panel are the methods, with one colour in all panels."""
    drawn = []
    monkeypatch.setattr("teddy.report.ablation.palette_of", lambda rows: drawn.append(rows) or palette_of(rows))
    jobs = [(ipc, epochs, seed) for ipc in (1, 10) for epochs in (300, 500) for seed in (0, 1)]
    for job, (ipc, epochs, seed) in enumerate(jobs):
        settings = {"synthesis": {"ipc": ipc, "seed": seed}, "evaluation": {"epochs": epochs}}
        overrides = {"synthesis.ipc": ipc, "synthesis.seed": seed, "evaluation.epochs": epochs}
        rows = [
            row for name in ("a", "b", "real") for row in students(name, [50.0 + job, 51.0 + job], f"{job}", ipc=ipc)
        ]
        make_run(tmp_path / str(job), rows, settings, overrides)
    sweep = compare(read_runs([tmp_path]))
    assert keys_to_draw(sweep) == ["synthesis.ipc", "evaluation.epochs"], (
        "seeds are no axis where something else varies"
    )
    assert ablation(sweep, "synthesis.ipc", tmp_path / "figures" / "a.png")
    (rows,) = drawn
    assert set(rows.panel.str.removeprefix("protocol paper, stored labels, ")) == {
        f"seed {seed}, epochs {epochs}" for seed in (0, 1) for epochs in (300, 500)
    }
    assert set(rows.series) == {"a", "b", "random real images"}
    assert all(len(line) == 2 for _, line in rows.groupby(["panel", "series"])), "one point for each IPC"


def test_many_methods_under_one_setting_share_a_panel(tmp_path, make_run, students, monkeypatch):
    drawn = []
    monkeypatch.setattr("teddy.report.ablation.palette_of", lambda rows: drawn.append(rows) or palette_of(rows))
    names = [f"m{index}" for index in range(MAX_SERIES + 1)]
    for job, ipc in enumerate((1, 10)):
        rows = [row for name in names for row in students(name, [50.0, 51.0], f"{job}", ipc=ipc)]
        make_run(tmp_path / str(job), rows, {"synthesis": {"ipc": ipc}}, {"synthesis.ipc": ipc})
    ablation(compare(read_runs([tmp_path])), "synthesis.ipc", tmp_path / "figures" / "a.png")
    (rows,) = drawn
    assert set(rows.panel) == {"protocol paper, stored labels"}
    assert list(rows.series.drop_duplicates()) == names


def test_settings_that_the_key_does_not_matter_to_have_no_panel(tmp_path, make_run, students, monkeypatch):
    """Here the key is a method's own, and this method has been run with ten images per class only."""
    drawn = []
    monkeypatch.setattr("teddy.report.ablation.palette_of", lambda rows: drawn.append(rows) or palette_of(rows))
    others = [f"m{index}" for index in range(MAX_SERIES)]
    for job, (ipc, lr, names) in enumerate([(10, 1, ["a", "real"]), (10, 2, ["a", "real"]), (1, 1, [*others, "real"])]):
        settings = {"synthesis": {"ipc": ipc}, "methods": {"a": {"lr": lr}}}
        rows = [row for name in names for row in students(name, [50.0, 51.0], f"{ipc}{lr * (name == 'a')}", ipc=ipc)]
        make_run(tmp_path / str(job), rows, settings, {"synthesis.ipc": ipc, "methods.a.lr": lr})
    ablation(compare(read_runs([tmp_path])), "methods.a.lr", tmp_path / "figures" / "a.png")
    (rows,) = drawn
    assert set(rows.ipc) == {10}
    assert set(rows.series) == {"a", "random real images"}


def test_of_keys_that_change_together_one_is_drawn(tmp_path, make_run, students):
    for job, first in enumerate((1, 11)):
        settings = {"pool": {"first": first, "last": first + 9}, "seed": job}
        overrides = {"pool.first": first, "pool.last": first + 9, "seed": job, "experiment": f"x{job}"}
        make_run(tmp_path / str(job), students("ours", [50.0], f"{job}"), settings, overrides)
    assert keys_to_draw(compare(read_runs([tmp_path]))) == ["pool.first"]


def test_students_make_series_and_are_drawn_only_where_nothing_else_varies(tmp_path, make_run, students):
    for job, (ipc, name) in enumerate([(1, "vgg"), (1, "resnet"), (10, "vgg"), (10, "resnet")]):
        settings = {"synthesis": {"ipc": ipc}, "evaluation": {"students": [name]}}
        overrides = {"synthesis.ipc": ipc, "evaluation.students": f"[{name}]"}
        rows = students("ours", [50.0 + job], f"{job}", ipc=ipc, student=name)
        make_run(tmp_path / str(job), rows, settings, overrides)
    sweep = compare(read_runs([tmp_path]))
    assert keys_to_draw(sweep) == ["synthesis.ipc"]
    assert set(series_of(sweep, "synthesis.ipc").series) == {"Ours, vgg", "Ours, resnet"}
    alone = compare(read_runs([tmp_path / "0", tmp_path / "1"]))
    assert keys_to_draw(alone) == ["evaluation.students"]
    assert set(series_of(alone, "evaluation.students").series) == {"Ours"}


def test_names_lose_what_they_share():
    assert short_names(["cifar10_ipc10_prior", "cifar10_ipc10_post"]) == ["prior", "post"]
    assert short_names(["a_prior_x", "b_prior_x"]) == ["a", "b"]
    assert short_names(["x_a_b_y", "x_c_b_y"]) == ["a", "c"]
    assert short_names(["x_a_b", "x_c_d"]) == ["a_b", "c_d"]
    assert short_names(["x", "x_prior"]) == ["x", "x_prior"]
    assert short_names(["a"]) == ["a"]


def test_runs_of_different_methods_have_bars_of_the_methods(tmp_path, make_run, students):
    for job, name in enumerate(("ours", "other")):
        make_run(tmp_path / str(job), students(name, [50.0], f"{job}"), {}, {"method": f"[{name},random]"})
    comparison = compare(read_runs([tmp_path]))
    assert list(comparison.values) == ["method"]
    assert keys_to_draw(comparison) == []
    (picture,) = [one for one in draw_pictures(comparison, tmp_path / "figures") if "accuracy" in one.heading.lower()]
    assert picture.path == tmp_path / "figures" / "accuracy.png"


@pytest.mark.parametrize("second", [200, None])
def test_a_setting_that_no_method_has_twice_is_no_axis(sweep_of, students, tmp_path, second):
    """Each method at its own number of iterations, or without one, as in a table of published settings."""
    found = sweep_of(
        "synthesis.iterations",
        {100: [50.0, 51.0], second: []},
        more=lambda job: students("other", [60.0, 61.0], "o") if job else [],
        settings=lambda job: {"synthesis": {"iterations": second if job else 100}},
    )
    assert ablation(found, "synthesis.iterations", tmp_path / "chart.png") is None


def test_a_method_at_one_value_leaves_its_room_to_those_at_several(tmp_path, make_run, students, drawn):
    for job, count in enumerate((100, 200)):
        more = [] if job else students("other", [60.0, 61.0], "o")
        settings, overrides = {"synthesis": {"iterations": count}}, {"synthesis.iterations": count}
        make_run(tmp_path / str(job), students("ours", [50.0 + job, 51.0], f"{job}") + more, settings, overrides)
    sweep = compare(read_runs([tmp_path]))
    assert set(series_of(sweep, "synthesis.iterations")[lambda rows: ~rows.level].series) == {
        "Ours",
        "the other method",
    }
    assert len(drawn(sweep, "synthesis.iterations", BLUE)) > 300
    assert len(drawn(sweep, "synthesis.iterations", ORANGE)) == 0


def test_a_run_without_the_key_takes_no_place_on_the_axis(tmp_path, make_run, students, drawn):
    """The numbers of the others lie where they would without it."""
    for lr, top1 in {1: 50.0, 2: 60.0, 4: 50.0}.items():
        settings, overrides = {"methods": {"a": {"lr": lr}}}, {"methods.a.lr": lr} if lr > 1 else {}
        make_run(tmp_path / str(lr), students("a", [top1, top1], f"{lr}"), settings, overrides)
    make_run(tmp_path / "0", students("b", [45.0, 46.0], "b"), {"methods": {"b": {}}}, {})
    sweep = compare(read_runs([tmp_path]))
    assert len(sweep.values["methods.a.lr"]) == 4
    assert apex(drawn(sweep, "methods.a.lr", ORANGE)) == pytest.approx(1 / 3, abs=0.03)
