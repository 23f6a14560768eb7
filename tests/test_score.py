"""``python -m teddy.score``: any set beside as many random real images, through the whole pipeline."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from teddy import score
from teddy.config.command import check_jobs, read_command
from teddy.config.schema import register_schemas
from teddy.data.sources.embedded import FashionMini
from teddy.sets.folder import open_set
from tests.conftest import SHORT
from tests.export.conftest import make_set  # noqa: F401 - a fixture

register_schemas()


@pytest.fixture
def garments(tmp_path: Path) -> Path:
    """The first two training images of each class of fashion_mini, in folders called by its number."""
    train = FashionMini().load().train
    for label in range(10):
        folder = tmp_path / "garments" / f"{label:05d}"
        folder.mkdir(parents=True)
        for index in (train.labels == label).nonzero().flatten()[:2].tolist():
            Image.fromarray(train.images[index, 0].numpy()).save(folder / f"{index}.png")
    return tmp_path / "garments"


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEDDY_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(sys, "argv", ["teddy"])
    monkeypatch.setenv("TEDDY_COMMAND", "")
    return tmp_path


def test_a_folder_is_measured_beside_as_many_random_images_and_a_report_is_written(garments, in_folder):
    short = [word for word in SHORT if not word.startswith(("name", "evaluation.protocol", "evaluation.seeds"))]
    words = [str(garments), "dataset=fashion_mini", *short, "hydra.run.dir=run"]
    assert score.main(words) == 0
    rows = [json.loads(line) for line in (in_folder / "run" / "results.jsonl").read_text().splitlines()]
    assert [(row["method"], row["seed"]) for row in rows] == [(m, s) for m in ("foreign", "random") for s in range(3)]
    assert {(row["ipc"], row["protocol"], row["labels"], row["dataset"]) for row in rows} == {
        (2, "dm", "hard", "fashion_mini")
    }
    assert rows[0]["title"] == "garments"
    page = (in_folder / "run" / "results.md").read_text()
    assert "garments" in page
    assert shlex.join(["python", "-m", "teddy.score", *words]) in page, "the command as it was typed"
    students = open_set(in_folder / "run" / "sets" / "foreign").images.images
    given = [
        np.array(Image.open(file)) for file in sorted(garments.glob("*/*.png"), key=lambda f: (f.parent.name, f.name))
    ]
    assert np.array_equal(students[:, 0].numpy(), np.stack(given)), "what students see are the images as they are"


def composed(argv):
    (config,) = check_jobs(read_command(score.score_words(argv)))
    return config


def test_words_of_teddy_work_behind_the_folder(garments):
    config = composed([str(garments), "dataset=fashion_mini", "--protocol", "idc", "evaluation.students=[convnet3_in]"])
    assert (config.name, list(config.methods)) == ("score", ["foreign", "random"])
    assert (config.evaluation.protocol, config.evaluation.seeds) == ("idc", 3)
    assert config.evaluation.students == ["convnet3_in"]
    assert config.methods["foreign"]["path"] == str(garments)


def test_a_name_with_quotes_and_spaces_is_a_path_like_others(garments):
    odd = garments.rename(garments.with_name('it\'s "mine", a=b'))
    assert composed([str(odd), "dataset=fashion_mini"]).methods["foreign"]["path"] == str(odd)


def nothing(folder: Path) -> None:
    pass


def one_more(folder: Path) -> None:
    shutil.copy(next((folder / "00003").iterdir()), folder / "00003" / "extra.png")


def one_class_less(folder: Path) -> None:
    shutil.rmtree(folder / "00003")


@pytest.mark.parametrize(
    ("change", "words", "sentence"),
    [
        (nothing, [], "add dataset=NAME"),
        (one_more, ["dataset=fashion_mini"], "2 to 3 images of a class.*synthesis.ipc=2"),
        (one_class_less, ["dataset=fashion_mini"], "neither by name nor by number"),
        (nothing, ["dataset=fashion_mini", "--protocol", "new"], "evaluation.protocol='new' is not known"),
        (nothing, ["dataset=fashion_mini", "synthesis.ipc=3"], "has a class of 2 images.*synthesis.ipc=2"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_sentence(garments, in_folder, change, words, sentence, capfd):
    change(garments)
    assert score.main([str(garments), *words, "hydra.run.dir=run"]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("teddy: ")]
    assert re.search(sentence, line)


def test_a_set_of_ours_knows_its_dataset_and_its_tiles(make_set):  # noqa: F811
    opened = make_set(name="fashion_mini", tiles=2)
    config = composed([str(opened.path)])
    assert config.dataset.name == "fashion_mini"
    keys = config.methods["foreign"]
    assert (keys["path"], keys["title"], keys["tiles"]) == (str(opened.path / "images"), "Mine", 2)


def test_help_names_the_forms(capsys):
    assert score.main(["--help"]) == 0
    assert "save_to_disk" in capsys.readouterr().out
