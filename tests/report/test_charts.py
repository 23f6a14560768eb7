import numpy as np
import pandas as pd
import pytest
from PIL import Image

from teddy.report.charts import COLOURS, DPI, GREY, accuracy_bars, class_curves, palette_of, pool_curve, term_curves
from teddy.report.comparison import compare
from teddy.report.pictures import draw_pictures
from teddy.report.runs import read_runs

BLUE, ORANGE = COLOURS[:2]


@pytest.fixture
def bars(tmp_path, make_run):
    """The accuracy bars of one run with these rows."""
    count = iter(range(100))

    def make(rows):
        folder = make_run(tmp_path / f"one{next(count)}", rows)
        return accuracy_bars(compare(read_runs([folder])), folder / "figures" / "accuracy.png")

    return make


def test_bars_are_as_high_as_the_accuracies(bars, students, pixels_of):
    out = bars(students("ours", [80.0, 81.0, 82.0]) + students("real", [40.0, 41.0, 42.0]))
    assert 1.7 < pixels_of(out, BLUE) / pixels_of(out, GREY) < 2.2  # 81 / 41 = 1.98, less dots, whiskers and numbers
    assert pixels_of(out, "white") > 1000


def test_more_protocols_make_a_wider_figure_and_many_make_rows_of_two(bars, students):
    sizes = []
    for protocols in ("a", "ab", "abcde"):
        rows = [row for one in protocols for row in students("ours", [80.0], protocol=one)]
        sizes.append(Image.open(bars(rows)).size)
    assert sizes[0][0] < sizes[1][0] == sizes[2][0]
    assert [height for _, height in sizes] == [4 * DPI, 4 * DPI, 3 * 4 * DPI]


def test_a_group_has_no_gaps_for_what_it_lacks(bars, students):
    """Six methods, each with a student of its own, take the room of six bars and six gaps, not of 36 bars."""
    rows = [row for name in "abcdef" for row in students(name, [80.0], student=f"convnet{name}")]
    assert Image.open(bars(rows)).size[0] / DPI == pytest.approx(0.8 + 0.5 * (6 + 6))


def test_two_pools_of_one_method_are_two_colours(bars, students, pixels_of):
    rows = students("ours", [80.0]) + students("ours", [80.0], pool="post")
    out = bars(rows)
    assert min(pixels_of(out, BLUE), pixels_of(out, ORANGE)) > 1000
    assert pixels_of(bars(students("ours", [80.0])), ORANGE) == 0


def test_colours_follow_the_order_and_baselines_are_grey():
    names = [*(f"m{index}" for index in range(12)), "real", "also real"]
    colours = palette_of(pd.DataFrame({"series": names, "baseline": [name.endswith("real") for name in names]}))
    assert list(colours) == names
    assert list(colours.values())[:3] == COLOURS[:3]
    assert colours["real"] == colours["also real"] == GREY
    assert GREY not in COLOURS
    assert len(set(colours.values())) == 12 + 1


@pytest.mark.parametrize("blocks", [1, 5])
def test_every_named_term_is_drawn(tmp_path, make_terms, pixels_of, blocks):
    terms = make_terms(tmp_path / "t.csv", blocks, ce=3.0, whatever=50.0, third=-1.0)
    out = term_curves(terms, tmp_path / "figures" / "c.png")
    assert Image.open(out).size == (round(2 * 4.8 * DPI), round(2 * 3.4 * DPI))
    assert all(pixels_of(out, colour) > 300 for colour in COLOURS[:3])


def test_positive_terms_that_change_tenfold_have_a_log_axis(tmp_path, pixels_of):
    """On a log axis a geometric decay is a straight line, so that its pixels lie near the line between its ends."""
    bends = []
    for name, shift in (("log", 0.0), ("negative", -2.0), ("narrow", 1.0)):
        frame = pd.DataFrame({"block": 0, "iteration": range(100), "term": 0.9 ** np.arange(100) + shift})
        frame.to_csv(tmp_path / "t.csv", index=False)
        places = pixels_of(term_curves(tmp_path / "t.csv", tmp_path / f"{name}.png"), BLUE, where=True)
        left, right = places[places[:, 1].argmin()], places[places[:, 1].argmax()]
        middle = places[np.abs(places[:, 1] - (left[1] + right[1]) / 2) < 2][:, 0].mean()
        bends.append(abs(middle - (left[0] + right[0]) / 2) / (right[0] - left[0]))
    assert bends[0] < 0.03
    assert min(bends[1:]) > 0.3


def test_no_term_no_figure(tmp_path, make_terms):
    (tmp_path / "t.csv").write_text("block,iteration,ce\n0,1,\n")
    assert term_curves(tmp_path / "t.csv", tmp_path / "c.png") is None
    assert not (tmp_path / "c.png").exists()


def test_the_pool_s_members_are_marked(tmp_path, pixels_of):
    pool = [dict(epoch=e, top1_holdout=3.0 * e, chosen=False) for e in range(1, 11)]
    plain = pixels_of(pool_curve(pool, tmp_path / "plain.png", "top-1 (%)"), BLUE)
    for teacher in pool[::2]:
        teacher["chosen"] = True
    assert pixels_of(pool_curve(pool, tmp_path / "marked.png", "top-1 (%)"), BLUE) > plain + 200


@pytest.mark.parametrize("epochs", [[0.22, 0.44, 0.9, 2.0], [1, 1, 1, 2], [0, 0.5, 0.5, 30]])
def test_pruned_models_stand_side_by_side_in_equal_steps(tmp_path, pixels_of, epochs):
    pool = [dict(epoch=epoch, top1_holdout=50.0, chosen=True) for epoch in epochs]
    places = pixels_of(pool_curve(pool[::-1], tmp_path / "p.png", "top-1 (%)"), BLUE, where=True)
    rows, counts = np.unique(places[:, 0], return_counts=True)
    columns = np.sort(places[places[:, 0] == rows[counts.argmax()]][:, 1])  # the row in which all markers lie
    dots = [part.mean() for part in np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)]
    assert len(dots) == 4
    assert np.ptp(np.diff(dots)) < 2


def test_pruned_models_outside_the_pool_are_hollow(tmp_path, pixels_of):
    pool = [dict(epoch=0.5, top1_holdout=50.0 + n, chosen=True) for n in range(6)]
    full = pixels_of(pool_curve(pool, tmp_path / "a.png", "top-1 (%)"), BLUE)
    for teacher in pool[1:]:
        teacher["chosen"] = False
    assert pixels_of(pool_curve(pool, tmp_path / "b.png", "top-1 (%)"), BLUE) < 0.7 * full


def test_a_teacher_may_lack_a_number(tmp_path, pixels_of):
    pool = [dict(epoch=n % 3, top1_holdout=50.0 + n if n else None, chosen=True) for n in range(6)]
    assert pixels_of(pool_curve(pool, tmp_path / "p.png", "top-1 (%)"), BLUE) > 200
    assert pool_curve([dict(epoch=0, chosen=True)], tmp_path / "none.png", "top-1 (%)") is None
    assert pool_curve([], tmp_path / "none.png", "top-1 (%)") is None


def test_class_curves_fall_as_the_accuracies_do(tmp_path, make_run, students, pixels_of):
    rows = [row for count in (2, 6, 10) for row in students("real", [50.0, 52.0], f"{count}", classes=count)]
    for count, top1 in ((2, 90.0), (6, 80.0), (10, 60.0)):
        rows += students("ours", [top1, top1 + 2], f"{count}", classes=count)
    make_run(tmp_path / "run", rows)
    comparison = compare(read_runs([tmp_path / "run"]))
    path = class_curves(comparison, tmp_path / "classes.png")
    height = Image.open(path).height
    line = pixels_of(path, BLUE, where=True)
    line = line[line[:, 0] < 0.75 * height]  # without the legend
    first, last = (line[line[:, 1] == edge(line[:, 1])][:, 0].mean() for edge in (np.min, np.max))
    assert last > first + height / 5
    names = [picture.path.name for picture in draw_pictures(comparison, tmp_path / "figures") if picture.path]
    assert names == ["classes.png"]
