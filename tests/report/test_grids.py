import numpy as np
import pytest
import torch
from PIL import Image

from teddy.report.grids import CELL, GAP, choose, draw, grid_of, image_grid, iteration_grid, method_grid
from teddy.report.runs import read_runs


def images(count, size=8, channels=3):
    """Random images with one bright corner pixel."""
    made = torch.randint(
        0, 200, (count, channels, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    made[:, :, 0, 0] = 255
    return list(made)


def cell(grid, row, column, size=8):
    """One cell of a grid at its shown size, and undone to the image's own."""
    shown = round(CELL / size) * size
    y, x = (GAP + index * (shown + GAP) for index in (row, column))
    pixels = grid[:, y : y + shown, x : x + shown]
    return pixels, pixels[:, :: shown // size, :: shown // size]


@pytest.mark.parametrize("size", [8, 28, 32, 64, 96])
def test_pixels_are_repeated_not_smoothed(size):
    rows = [images(2, size), images(3, size)[1:]]
    grid = grid_of(rows, 2)
    for row, some in enumerate(rows):
        for column, image in enumerate(some):
            pixels, small = cell(grid, row, column, size)
            scale = round(CELL / size)
            assert torch.equal(small, image)
            assert torch.equal(pixels, image.repeat_interleave(scale, 1).repeat_interleave(scale, 2))


def test_missing_images_are_white_and_grey_ones_grey():
    grid = grid_of([images(2, channels=1), images(1, channels=1)], 2)
    _, small = cell(grid, 0, 0)
    assert torch.equal(small, images(1, channels=1)[0].expand(3, -1, -1))
    assert (cell(grid, 1, 1)[0] == 255).all()


def test_large_images_are_shrunk():
    assert grid_of([images(3, 224)], 3).shape == (3, CELL + 2 * GAP, 3 * (CELL + GAP) + GAP)


def crop(path, height, width):
    """The lower right part of a picture, (3, height, width)."""
    picture = np.asarray(Image.open(path).convert("RGB"))
    return picture[-height:, -width:].transpose(2, 0, 1), picture


def test_a_picture_is_the_grid_with_names_at_the_left(tmp_path):
    rows = {"ant": images(3), "a_very_long_name of a class " * 9: images(3)[::-1]}
    path = draw({"": list(rows.items())}, tmp_path / "deep" / "g.png")
    grid = grid_of(list(rows.values()), 3)
    shown, picture = crop(path, *grid.shape[1:])
    assert np.array_equal(shown, grid.numpy())
    assert picture.shape[0] == grid.shape[1]
    left = picture[:, : -grid.shape[2]]
    for half in np.split(left, 2):
        assert (half < 100).any()  # a name
    assert (left[:, :2] == 255).all()  # which is not cut off


def test_rows_are_classes_under_their_names(tmp_path, make_run, make_images, students):
    folder = make_images(tmp_path / "png", blue=7, classes=("bee", "ant"), count=12)  # ant is class 0
    (run,) = read_runs([make_run(tmp_path / "run", students("ours", [1.0]))])
    path = image_grid(folder, run, tmp_path / "g.png")
    shown, _ = crop(path, 2 * (CELL + GAP) + GAP, 10 * (CELL + GAP) + GAP)
    middles = shown[:, CELL // 2 :: CELL + GAP, CELL // 2 :: CELL + GAP]
    assert middles[0].tolist() == [[30] * 10, [20] * 10]
    assert middles[1].tolist() == [[20 + 10 * column for column in range(10)]] * 2


def test_methods_stand_below_one_another_class_by_class(tmp_path, make_run, make_images, students):
    folders = {name: make_images(tmp_path / name, blue, count=2) for name, blue in (("Ours", 10), ("other", 90))}
    (run,) = read_runs([make_run(tmp_path / "run", students("ours", [1.0]))])
    path = method_grid(folders, run, tmp_path / "g.png")
    _, picture = crop(path, 1, 1)
    colours = picture[:, -GAP - CELL // 2].tolist()  # through the second images
    seen = [now for now, before in zip(colours[1:], colours, strict=False) if now != before and now[0] < 100]
    assert seen == [[20 + 10 * label, 30, blue] for label in range(3) for blue in (10, 90)]
    white = np.flatnonzero((picture[:, -GAP - CELL // 2] == 255).all(axis=1))
    gaps = [len(part) for part in np.split(white, np.flatnonzero(np.diff(white) > 1) + 1)]
    assert gaps == [gaps[0], GAP, gaps[2], GAP, gaps[2], GAP, GAP]
    assert gaps[0] > 20  # room for the heading
    (tmp_path / "empty").mkdir()
    assert method_grid({**folders, "none": tmp_path / "empty"}, run, tmp_path / "h.png") is None


def test_iterations_go_to_the_right(tmp_path, make_run, make_snapshots, students):
    (run,) = read_runs([make_run(tmp_path / "run", students("ours", [1.0]), record={"class_names": ["a", "a", "b"]})])
    path = iteration_grid(make_snapshots(tmp_path / "s"), run, tmp_path / "g.png")
    shown, _ = crop(path, 3 * (CELL + GAP) + GAP, 3 * (CELL + GAP) + GAP)
    middles = shown[0, CELL // 2 :: CELL + GAP, CELL // 2 :: CELL + GAP]
    assert middles.tolist() == [[200, 160, 120], [210, 170, 130], [220, 180, 140]]
    (tmp_path / "none").mkdir()
    assert iteration_grid(tmp_path / "none", run, tmp_path / "h.png") is None
    many = iteration_grid(make_snapshots(tmp_path / "many", range(0, 100, 20)), run, tmp_path / "m.png")
    assert Image.open(many).width > Image.open(path).width


def test_of_many_classes_a_fixed_choice_in_order():
    assert choose(4, 20) == [0, 1, 2, 3]
    assert choose(100, 5) == choose(100, 5) == sorted(set(choose(100, 5)))
    assert len(choose(100, 5)) == 5
