"""Plain folders, as torchvision and rethinkdc read them."""

from __future__ import annotations

import numpy as np
from torchvision.datasets import ImageFolder

from teddy.export.__main__ import main


def pixels(folder: ImageFolder) -> np.ndarray:
    return np.stack([np.array(image) for image, _ in folder]).transpose(0, 3, 1, 2)


def test_torchvision_reads_the_images_as_networks_see_them(make_set, tmp_path):
    opened = make_set("hard", tiles=2)
    assert main([str(opened.path), "--to", "imagefolder", "--out", str(tmp_path / "out")]) == 0
    folder = ImageFolder(str(tmp_path / "out"))
    assert folder.classes == list(opened.spec.class_ids)
    assert np.array_equal(pixels(folder), opened.images.images.numpy())
    assert (tmp_path / "out" / "classes.txt").read_text().splitlines()[1] == "0001_c\tclass 0001_c"
    assert "python -m teddy" in (tmp_path / "out" / "README.md").read_text()


def test_rethinkdc_finds_nothing_but_class_folders(make_set, tmp_path, capsys):
    opened = make_set("hard", name="imagenet", classes=1000)
    assert main([str(opened.path), "--to", "rethinkdc", "--out", str(tmp_path / "out")]) == 0
    images = tmp_path / "out" / "images"
    assert all(path.is_dir() for path in images.iterdir()), "it counts the files of whatever comes first"
    assert len(ImageFolder(str(images))) == 3000
    assert f"rethinkdc {images} --soft --ipc 3" in capsys.readouterr().out


def test_rethinkdc_is_for_imagenet_alone(make_set, tmp_path, capsys):
    assert main([str(make_set("hard").path), "--to", "rethinkdc", "--out", str(tmp_path / "out")]) == 2
    assert "ImageNet-1K" in capsys.readouterr().err


def test_a_folder_that_is_there_is_left_alone(make_set, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert main([str(make_set("hard").path), "--to", "imagefolder", "--out", str(tmp_path / "out")]) == 2
    assert "is there already" in capsys.readouterr().err


def test_a_set_is_not_written_into_itself(make_set):
    opened = make_set("hard")
    assert main([str(opened.path), "--to", "hf", "--out", str(opened.path / "hub")]) == 2
    assert not (opened.path / "hub").exists()


def test_what_is_no_set_is_refused(tmp_path, capsys):
    assert main([str(tmp_path), "--to", "imagefolder"]) == 2
    assert "holds no set" in capsys.readouterr().err
