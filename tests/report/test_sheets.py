import numpy as np
import pytest
from PIL import Image

from teddy.report.sheets import GAP, image_sheet, iteration_sheet


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
