import numpy as np
import pytest
from PIL import Image

from teddy.report.sheets import (
    GAP,
    choose,
    classes_to_compare,
    image_sheet,
    iteration_sheet,
    method_sheet,
    read_folder,
)


def coloured(classes, per_class, size=8):
    """Images whose colour tells the class (red) and the place within it (green), with one blue corner pixel."""
    labels = np.tile(np.arange(classes), per_class)
    place = np.repeat(np.arange(per_class), classes)
    images = np.zeros((len(labels), 3, size, size), np.uint8)
    images[:, 0] = (10 + 8 * labels)[:, None, None]
    images[:, 1] = (10 + 8 * place)[:, None, None]
    images[:, 2, 0, 0] = 255
    return images, labels


def shown(grid, path, row, column):
    """What the sheet shows in a cell, undone to the image's own size."""
    x, y = grid.corner(row, column)
    pixels = np.asarray(Image.open(path))[y : y + grid.cell, x : x + grid.cell]
    return pixels[:: grid.scale, :: grid.scale].transpose(2, 0, 1), pixels


def test_class_c_is_in_row_c_in_its_own_order(tmp_path):
    images, labels = coloured(4, 3)
    path = tmp_path / "deep" / "sheet.png"
    grid = image_sheet(images, labels, ["a", "bb", "ccc", "dddd"], path, columns_per_class=10)
    assert (grid.rows, grid.columns) == (4, 3)
    assert Image.open(path).size == grid.size
    for row in range(4):
        for column in range(3):
            small, _ = shown(grid, path, row, column)
            assert np.array_equal(small, images[labels == row][column])


def test_pixels_are_repeated_not_smoothed(tmp_path):
    images, labels = coloured(1, 1)
    grid = image_sheet(images, labels, ["a"], tmp_path / "s.png")
    _, pixels = shown(grid, tmp_path / "s.png", 0, 0)
    assert grid.cell == 8 * grid.scale
    blue = pixels[..., 2] == 255
    assert blue[: grid.scale, : grid.scale].all()
    assert blue.sum() == grid.scale**2


def test_only_so_many_columns(tmp_path):
    images, labels = coloured(2, 7)
    grid = image_sheet(images, labels, ["a", "b"], tmp_path / "s.png", columns_per_class=4)
    assert grid.columns == 4
    assert grid.size[0] == grid.left + 4 * grid.cell + 3 * GAP + 16


def test_a_class_with_fewer_images_leaves_white_cells(tmp_path):
    images, labels = coloured(2, 2)
    keep = [0, 1, 2]  # class 1 has one image
    grid = image_sheet(images[keep], labels[keep], ["a", "b"], tmp_path / "s.png")
    small, _ = shown(grid, tmp_path / "s.png", 1, 1)
    assert (small == 255).all()


def test_grey_images_are_grey(tmp_path):
    image = np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8)
    grid = image_sheet(image, [0], ["a"], tmp_path / "s.png", title="A title that is far too long for this sheet")
    small, _ = shown(grid, tmp_path / "s.png", 0, 0)
    assert np.array_equal(small, np.broadcast_to(image[0], (3, 8, 8)))


def test_of_many_classes_a_seeded_twenty_in_class_order(tmp_path):
    images, labels = coloured(30, 1)
    names = [str(c) for c in range(30)]
    grid = image_sheet(images, labels, names, tmp_path / "a.png", seed=1)
    image_sheet(images, labels, names, tmp_path / "b.png", seed=1)
    image_sheet(images, labels, names, tmp_path / "c.png", seed=2)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "c.png").read_bytes()
    reds = [int(shown(grid, tmp_path / "a.png", row, 0)[0][0, 1, 1]) for row in range(20)]
    assert reds == sorted(set(reds))
    assert len(reds) == 20


@pytest.mark.parametrize("size", [28, 32, 64, 96, 224])
def test_cells_have_a_readable_size(tmp_path, size):
    images, labels = coloured(2, 2, size)
    grid = image_sheet(images, labels, ["a", "b"], tmp_path / "s.png")
    assert 96 <= grid.cell <= 160
    assert Image.open(tmp_path / "s.png").size == grid.size


def test_iterations_go_to_the_right(tmp_path):
    images, _ = coloured(3, 1)
    snapshots = [(step, images // (1 + column)) for column, step in enumerate((0, 100, 4000))]
    grid = iteration_sheet(snapshots, tmp_path / "s.png", ["a", "b", "c"], max_rows=2)
    assert (grid.rows, grid.columns) == (2, 3)
    for row in range(2):
        for column in range(3):
            assert np.array_equal(shown(grid, tmp_path / "s.png", row, column)[0], snapshots[column][1][row])


def test_methods_stand_below_one_another_class_by_class(tmp_path):
    images, labels = coloured(3, 4)
    ours = {label: list(images[labels == label]) for label in (0, 2)}
    theirs = {label: [255 - image for image in some[:2]] for label, some in ours.items()}
    path = tmp_path / "s.png"
    names = ["ant", "a very long name of a class " * 9, "cat"]
    grid = method_sheet({"Teddy, teachers per block of images 3": ours, "SRe2L": theirs}, names, path, columns=3)
    assert (grid.rows, grid.columns) == (4, 3)
    assert Image.open(path).size == grid.size
    for row, (method, label) in enumerate([(ours, 0), (theirs, 0), (ours, 2), (theirs, 2)]):
        for column in range(3):
            small, _ = shown(grid, path, row, column)
            wanted = method[label][column] if column < len(method[label]) else np.full_like(images[0], 255)
            assert np.array_equal(small, wanted)
    # Between the classes there is room for the next one's name, at the left edge; none between methods.
    tops = [grid.corner(row, 0)[1] for row in range(4)]
    assert tops[1] - tops[0] == tops[3] - tops[2] == grid.cell + GAP
    assert tops[2] - tops[1] > grid.cell + GAP + 20
    pixels = np.asarray(Image.open(path).convert("L"))
    for top in (tops[0], tops[2]):
        assert (pixels[top - 30 : top - 2, 10:60] < 128).any()
    assert (pixels[:, : grid.left - 4][tops[1] : tops[1] + grid.cell] < 128).any()


def test_images_are_read_from_folders_in_the_order_of_names(tmp_path, make_images):
    folder = make_images(tmp_path / "x", blue=7, classes=("bee", "ant", "cat"), count=4)  # ant is class 0
    found = read_folder(folder, [0, 2, 9], columns=2)
    assert [[image[:, 0, 0].tolist() for image in found[label]] for label in (0, 2)] == [
        [[30, 20, 7], [30, 30, 7]],
        [[40, 20, 7], [40, 30, 7]],
    ]
    assert set(found) == {0, 2}
    assert read_folder(tmp_path / "none", [0]) == {}


def test_few_classes_by_seed_and_fewer_for_many_methods():
    assert classes_to_compare(range(4), 2) == [0, 1, 2, 3]
    assert [len(classes_to_compare(range(100), methods)) for methods in (2, 3, 6, 50)] == [6, 6, 3, 2]
    assert choose(range(100), 5, seed=1) == choose(range(100), 5, seed=1) == sorted(choose(range(100), 5, seed=1))
    assert choose(range(100), 5, seed=1) != choose(range(100), 5, seed=2)
