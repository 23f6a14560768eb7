from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageColor

from teddy.report.figures import BLUE, DPI, GREY, ORANGE, PURPLE, accuracy_bars, colours_of, curves, pool_curve
from teddy.report.ledger import Result
from teddy.report.tables import group
from teddy.runtime.curves import CurveFile


def pixels_of(path, colour):
    """How many pixels have about this colour."""
    image = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return int((np.abs(image - ImageColor.getrgb(colour)).max(axis=2) < 12).sum())


def synthesis_curve(path, blocks, **extra):
    curve = CurveFile(path)
    for block in range(blocks):
        for iteration in range(0, 100, 10):
            losses = {"synthesis/loss_ce": 3 / (1 + iteration), "synthesis/loss_bn": 50 / (1 + iteration)}
            place = {"synthesis/block": block, "synthesis/iteration": iteration}
            curve.append(100 * block + iteration, {**losses, **place, **extra})
    return path


@pytest.mark.parametrize("blocks", [1, 5])
def test_both_terms_are_drawn(tmp_path, blocks):
    out = curves(synthesis_curve(tmp_path / "c.csv", blocks), tmp_path / "figures" / "c.png")
    assert Image.open(out).size == (round(2 * 4.8 * DPI), round(3.4 * DPI))
    assert min(pixels_of(out, BLUE), pixels_of(out, ORANGE)) > 500


def test_without_the_bn_term_there_is_one_panel(tmp_path):
    curve = CurveFile(tmp_path / "c.csv")
    for step in range(5):
        curve.append(step, {"synthesis/loss_ce": 0.0 if step == 3 else 1.0 + step})  # a zero has no logarithm
    out = curves(tmp_path / "c.csv", tmp_path / "c.png")
    assert Image.open(out).size == (round(4.8 * DPI), round(3.4 * DPI))
    assert pixels_of(out, ORANGE) == 0


def test_no_curve_no_figure(tmp_path):
    CurveFile(tmp_path / "c.csv").append(0, {"synthesis/lr": 0.1})
    assert curves(tmp_path / "c.csv", tmp_path / "c.png") is None
    assert curves([], tmp_path / "c.png") is None
    assert not (tmp_path / "c.png").exists()


def test_the_pool_s_members_are_marked(tmp_path):
    members = [dict(epoch=e, top1_holdout=3.0 * e, top1_test=2.5 * e, chosen=False) for e in range(1, 11)]
    plain = pixels_of(pool_curve(members, tmp_path / "plain.png"), BLUE)
    for member in members[::2]:
        member["chosen"] = True
    marked = pixels_of(pool_curve(members, tmp_path / "marked.png"), BLUE)
    assert marked > plain + 200
    assert Image.open(tmp_path / "marked.png").size == (round(6.4 * DPI), round(3.6 * DPI))


@pytest.mark.parametrize("epochs", [[0.22, 0.44, 0.9, 2.0], [1, 1, 1, 2], [0, 0.5, 0.5, 30]])
def test_pruned_copies_stand_side_by_side_in_equal_steps(tmp_path, epochs):
    members = [dict(epoch=epoch, top1_holdout=50.0, chosen=True) for epoch in epochs]
    image = np.asarray(Image.open(pool_curve(members[::-1], tmp_path / "p.png")).convert("RGB")).astype(int)
    blue = np.abs(image - ImageColor.getrgb(BLUE)).max(axis=2) < 12
    columns = np.flatnonzero(blue[blue.sum(axis=1).argmax()])  # the row in which all of them lie
    dots = [part.mean() for part in np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)]
    assert len(dots) == 4
    assert np.ptp(np.diff(dots)) < 2


def test_copies_outside_the_pool_are_hollow(tmp_path):
    members = [dict(epoch=0.5, top1_holdout=50.0 + n, chosen=True) for n in range(6)]
    full = pixels_of(pool_curve(members, tmp_path / "a.png"), BLUE)
    for member in members[1:]:
        member["chosen"] = False
    assert pixels_of(pool_curve(members, tmp_path / "b.png"), BLUE) < 0.7 * full


def test_a_member_may_lack_a_number(tmp_path):
    members = [dict(epoch=n % 3, top1_holdout=50.0 + n if n else None, chosen=True) for n in range(6)]
    assert pixels_of(pool_curve(members, tmp_path / "p.png"), BLUE) > 200
    assert pool_curve([dict(epoch=0, chosen=True)], tmp_path / "none.png") is None


def results(means, student="resnet18", protocol="paper"):
    facts = dict(dataset="x", ipc=1, pool="p", labels="online", protocol=protocol, student=student)
    return [Result(method=m, seed=s, top1=mean + s, **facts) for m, mean in means.items() for s in range(3)]


def test_bars_are_as_high_as_the_accuracies(tmp_path):
    out = accuracy_bars(group(results({"teddy": 80.0, "random": 40.0})), tmp_path / "b.png")
    ratio = pixels_of(out, BLUE) / pixels_of(out, GREY)
    assert 1.7 < ratio < 2.2  # 81 / 41 = 1.98, less what dots and whiskers cover


def test_more_protocols_make_a_wider_figure(tmp_path):
    one = group(results({"teddy": 80.0, "random": 40.0}))
    two = group(results({"teddy": 80.0, "random": 40.0}) + results({"teddy": 70.0}, protocol="modern"))
    narrow = Image.open(accuracy_bars(one, tmp_path / "1.png")).size
    wide = Image.open(accuracy_bars(two, tmp_path / "2.png")).size
    assert wide[0] > narrow[0]
    assert wide[1] == narrow[1] == 4 * DPI


def test_many_panels_stand_in_rows_of_two(tmp_path):
    rows = [row for protocol in "abcde" for row in results({"teddy": 80.0}, protocol=protocol)]
    width, height = Image.open(accuracy_bars(group(rows), tmp_path / "b.png")).size
    assert height == 3 * 4 * DPI
    assert width < 8 * DPI


def test_a_method_keeps_its_colour_where_its_pool_is_called_otherwise(tmp_path):
    rows = results({"teddy": 80.0, "random": 40.0})
    rows += [replace(row, protocol="hard_label", pool="none") for row in results({"random": 40.0})]
    assert pixels_of(accuracy_bars(group(rows), tmp_path / "b.png"), ORANGE) == 0


def test_two_pools_of_one_method_are_two_colours(tmp_path):
    rows = results({"teddy": 80.0})
    rows += [replace(row, pool="post") for row in rows]
    out = accuracy_bars(group(rows), tmp_path / "b.png")
    assert min(pixels_of(out, BLUE), pixels_of(out, ORANGE)) > 1000


def test_a_single_run_has_a_bar_and_nothing_has_none(tmp_path):
    single = [row for row in results({"teddy": 80.0}) if row.seed == 0]
    assert pixels_of(accuracy_bars(group(single), tmp_path / "b.png"), BLUE) > 1000
    assert accuracy_bars([], tmp_path / "none.png") is None


def test_each_method_has_its_own_colour_in_every_report(tmp_path):
    out = accuracy_bars(group(results({"sre2l": 60.0, "random": 40.0})), tmp_path / "b.png")
    assert min(pixels_of(out, PURPLE), pixels_of(out, GREY)) > 1000
    lanes = [("teddy", 1), ("teddy", 2), ("sre2l", 1), ("converged", 1), ("new", 1), ("random", 1), ("random", 2)]
    colours = colours_of(lanes)
    assert (colours["teddy", 1], colours["sre2l", 1], colours["converged", 1]) == (BLUE, PURPLE, ORANGE)
    assert colours["random", 1] == colours["random", 2] == GREY
    assert len(set(colours.values())) == 6
