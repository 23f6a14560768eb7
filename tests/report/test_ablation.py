import numpy as np
import pytest
from PIL import Image

from teddy.report.ablation import ablation, keys_to_draw, short_names
from teddy.report.figures import BLUE, GREY, ORANGE
from teddy.report.runs import read_runs
from teddy.report.sweep import collect

PAPER = "#777777"


@pytest.fixture
def sweep_of(tmp_path, make_run, students):
    """A sweep over one key with Teddy's accuracies by value, as given; further rows and settings by job."""

    def make(key, top1, more=lambda job: [], settings=lambda job: {}):
        group, _, name = key.partition(".")
        for job, (value, values) in enumerate(top1.items()):
            own = {group: {name: value}} if name else {group: value}
            rows = students("teddy", values, f"{job}") + more(job)
            make_run(tmp_path / str(job), rows, {**own, **settings(job)}, [f"{key}={value}"])
        return collect(read_runs([tmp_path]))

    return make


@pytest.fixture
def places_of(pixels_of):
    """(row, column) of the pixels of a colour above the axis, without the legend."""

    def find(path, colour):
        found = pixels_of(path, colour, where=True)
        return found[found[:, 0] < 0.78 * Image.open(path).height]

    return find


def apex(places):
    """How far between its ends, from 0 to 1, the highest place of a line lies; whiskers stand still here."""
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
def test_points_lie_where_their_numbers_are(tmp_path, sweep_of, places_of, values, wanted):
    sweep = sweep_of("labels.members", dict(zip(values, ([50.0, 50.0], [60.0, 60.0], [50.0, 50.0]), strict=True)))
    path = ablation(sweep, "labels.members", tmp_path / "figures" / "a.png")
    assert apex(places_of(path, BLUE)) == pytest.approx(wanted, abs=0.03)


def test_numbers_are_put_in_order(tmp_path, sweep_of, places_of):
    sweep = sweep_of("labels.members", {4: [50.0, 50.0], 1: [60.0, 60.0], 2: [50.0, 50.0]})
    assert apex(places_of(ablation(sweep, "labels.members", tmp_path / "a.png"), BLUE)) < 0.03


def test_whiskers_are_as_long_as_the_deviation(tmp_path, sweep_of, places_of):
    # Words are not joined by a line, so that what is blue is a whisker, a cap or a marker.
    sweep = sweep_of("pool", {"prior": [48.0, 52.0], "post": [46.0, 54.0]})
    places = places_of(ablation(sweep, "pool", tmp_path / "a.png"), BLUE)
    middle = places[:, 1].mean()
    left, right = (np.ptp(side[:, 0]) for side in (places[places[:, 1] < middle], places[places[:, 1] > middle]))
    assert right / left == pytest.approx(2.0, abs=0.05)  # 4√2 against 2√2


def test_what_does_not_depend_on_the_key_is_a_level(tmp_path, sweep_of, places_of, students):
    sweep = sweep_of(
        "labels.members",
        {1: [50.0, 50.0], 2: [60.0, 60.0]},
        more=lambda job: students("random", [55.0, 55.0], "same"),
    )
    path = ablation(sweep, "labels.members", tmp_path / "a.png")
    grey, blue = level_in(places_of(path, GREY)), places_of(path, BLUE)
    assert np.ptp(grey[:, 0]) <= 4  # one dashed line, halfway between the two points
    assert grey[:, 0].mean() == pytest.approx((blue[:, 0].min() + blue[:, 0].max()) / 2, abs=4)
    assert np.ptp(grey[:, 1]) > np.ptp(blue[:, 1])  # from edge to edge


def test_a_panel_in_which_nothing_depends_on_the_key_is_left_out(tmp_path, sweep_of, students):
    def same(job):
        return students("teddy", [30.0], "same", labels="hard", protocol="hard_label")

    sweep = sweep_of("labels.members", {1: [50.0], 2: [60.0]}, more=same)
    one = ablation(sweep, "labels.members", tmp_path / "a.png")
    assert one is not None
    level = collect(sweep.runs)
    level.rows[:] = [row for row in level.rows if row.group.labels == "hard"]
    assert ablation(level, "labels.members", tmp_path / "b.png") is None
    assert not (tmp_path / "b.png").exists()


def test_two_protocols_are_two_panels(tmp_path, sweep_of, students, places_of):
    def harder(job):
        return students("teddy", [30.0 + job], f"h{job}", labels="hard", protocol="hard_label")

    path = ablation(
        sweep_of("labels.members", {1: [50.0], 2: [60.0]}, more=harder), "labels.members", tmp_path / "a.png"
    )
    columns = places_of(path, BLUE)[:, 1]
    assert np.diff(np.unique(columns)).max() > 100


@pytest.mark.parametrize("same", [True, False])
def test_the_paper_is_grey_and_hollow_or_a_level_of_its_own(tmp_path, sweep_of, places_of, same):
    def settings(job):
        return {"paper": {"teddy/convnet3/paper/ipc10": [55.0 if same else 52.0 + job, 0.5]}}

    sweep = sweep_of("labels.members", {1: [50.0, 50.0], 2: [60.0, 60.0]}, settings=settings)
    grey = places_of(ablation(sweep, "labels.members", tmp_path / "a.png"), PAPER)
    assert (len(level_in(grey)) > 0) == same  # a level, or two markers with whiskers
    assert len(grey) > 50


def test_a_crowd_at_one_word_stays_there(tmp_path, make_run, students, places_of):
    """The first of eight lines goes through five words, the others have a point at the first word only."""
    jobs = [*((word, 1) for word in "abcde"), *(("a", lr) for lr in range(2, 9))]
    for job, (word, lr) in enumerate(jobs):
        settings, words = {"synthesis": {"lr": lr}}, [f"pool={word}", f"synthesis.lr={lr}"]
        make_run(tmp_path / str(job), students("teddy", [49.0, 51.0], f"{job}"), settings, words)
    places = places_of(ablation(collect(read_runs([tmp_path])), "pool", tmp_path / "a.png"), BLUE)
    columns = np.unique(places[places[:, 0] < places[:, 0].min() + 250][:, 1])  # the legend is below
    assert [len(some) > 10 for some in np.split(columns, np.flatnonzero(np.diff(columns) > 20) + 1)] == [True] * 5


def test_lines_of_further_keys_have_their_own_colours(tmp_path, make_run, students, pixels_of):
    for job, (count, ipc) in enumerate([(1, 1), (2, 1), (1, 10), (2, 10)]):
        settings = {"labels": {"members": count}, "synthesis": {"ipc": ipc}}
        words = [f"labels.members={count}", f"synthesis.ipc={ipc}"]
        make_run(tmp_path / str(job), students("teddy", [50.0 + job], f"{job}", ipc=ipc), settings, words)
    sweep = collect(read_runs([tmp_path]))
    assert keys_to_draw(sweep) == ["labels.members"]  # IPC makes lines
    path = ablation(sweep, "labels.members", tmp_path / "a.png")
    assert min(pixels_of(path, BLUE), pixels_of(path, ORANGE)) > 300


def test_of_keys_that_change_together_one_is_drawn(tmp_path, make_run, students):
    for job, first in enumerate((1, 11)):
        settings = {"pool": {"first": first, "last": first + 9}, "seed": job}
        words = [f"pool.first={first}", f"pool.last={first + 9}", f"seed={job}", f"+experiment=x{job}"]
        make_run(tmp_path / str(job), students("teddy", [50.0], f"{job}"), settings, words)
    assert keys_to_draw(collect(read_runs([tmp_path]))) == ["pool.first"]


def test_students_make_lines_and_are_drawn_only_where_nothing_else_varies(tmp_path, make_run, students, pixels_of):
    for job, (ipc, name) in enumerate([(1, "vgg"), (1, "resnet"), (10, "vgg"), (10, "resnet")]):
        settings = {"synthesis": {"ipc": ipc}, "evaluation": {"students": [name]}}
        words = [f"synthesis.ipc={ipc}", f"evaluation.students=[{name}]"]
        rows = students("teddy", [50.0 + job], f"{job}", ipc=ipc, student=name)
        make_run(tmp_path / str(job), rows, settings, words)
    sweep = collect(read_runs([tmp_path]))
    assert keys_to_draw(sweep) == ["synthesis.ipc"]
    path = ablation(sweep, "synthesis.ipc", tmp_path / "a.png")
    assert min(pixels_of(path, BLUE), pixels_of(path, ORANGE)) > 300
    alone = collect(read_runs([tmp_path / "0", tmp_path / "1"]))
    assert keys_to_draw(alone) == ["evaluation.students"]
    path = ablation(alone, "evaluation.students", tmp_path / "b.png")
    assert pixels_of(path, BLUE) > 200
    assert pixels_of(path, ORANGE) == 0  # one method, two places


def test_names_lose_what_they_share():
    assert short_names(["cifar10_ipc10_prior", "cifar10_ipc10_post"]) == ["prior", "post"]
    assert short_names(["a_prior_x", "b_prior_x"]) == ["a", "b"]
    assert short_names(["x", "x_prior"]) == ["x", "x_prior"]
    assert short_names(["a"]) == ["a"]
