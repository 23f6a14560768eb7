import re

import numpy as np
import pytest
from PIL import Image

from teddy.config.errors import BadInput
from teddy.report.runs import read_runs
from teddy.report.sheets import Grid
from teddy.report.sweep import collect
from teddy.report.sweep_page import image_folders, sentences, write


def report(folders, out, title=""):
    """What the program and ``python -m teddy.report`` do at their end."""
    return write(collect(read_runs(folders)), folders, out, title)


def test_a_sweep_has_one_report(teachers_sweep, tmp_path):
    (teachers_sweep / "3").mkdir()
    (teachers_sweep / "3" / "config.yaml").write_text("name: toy\n")
    page = report([teachers_sweep], tmp_path / "out")
    assert page == tmp_path / "out" / "index.html"
    text = (tmp_path / "out" / "results.md").read_text()
    assert text.startswith("# toy: synthesis.teachers_per_block\n")
    assert "| teddy | 2 | 54.0 ± 1.0 | +5.0 |" in text
    assert "| random | any | 49.0 ± 1.0 |" in text
    assert "In all rows: labels stored" in text
    assert "3 has no results and is left out" in text
    links = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert links == ["figures/ablation_synthesis_teachers_per_block.png", "figures/efficiency.png"]
    assert all((tmp_path / "out" / link).stat().st_size > 500 for link in links)
    assert page.read_text().count("data:image/png") == 2
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("results.md", "results.tex", "results.csv", "index.html", "figures")
    }


def test_the_sentence_measures_the_key_by_the_spread(teachers_sweep):
    (said,) = sentences(collect(read_runs([teachers_sweep])))
    # sqrt(1 + 1) = 1.4
    assert said == (
        "paper protocol, stored labels: Teddy is best at synthesis.teachers_per_block 2 (54.0 ± 1.0) and worst at 1 "
        "(51.0 ± 1.0): 3.0 points, more than the spread of 1.4."
    )


def test_runs_of_several_seeds_are_one_sentence(tmp_path, make_run, students):
    for seed, top1 in enumerate(([50.0, 52.0], [53.0, 53.0], [54.0, 58.0])):
        make_run(tmp_path / str(seed), students("teddy", top1, f"{seed}"), {"seed": seed}, [f"seed={seed}"])
    said = sentences(collect(read_runs([tmp_path])))
    assert said == ["paper protocol, stored labels: Teddy is 53.3 ± 2.5 over the runs with 3 seeds."]  # of 51, 53, 56
    report([tmp_path], tmp_path / "out")
    assert (tmp_path / "out" / "figures" / "ablation_seed.png").is_file()


@pytest.fixture
def compared(tmp_path, make_run, make_images, students):
    """Prior, post and SRe2L as single runs; the first two share their random images."""
    shared = make_images(tmp_path / "png" / "random", 200)
    for number, (name, method) in enumerate([("x_prior", "teddy"), ("x_post", "teddy"), ("x_sre2l", "sre2l")]):
        images = {method: str(make_images(tmp_path / "png" / name, 10 * (1 + number)))}
        if method == "teddy":
            images["random"] = str(shared)
        record = {"name": name, "images": images, "class_names": ["Ant", "Bee", "Cat"]}
        rows = students(method, [50.0 + number, 51.0 + number], name) + students("random", [45.0, 46.0], "same")
        settings = {"name": name, "pool": {"label": name.removeprefix("x_")}}
        make_run(tmp_path / "runs" / name, rows, settings, [f"+experiment={name}"], record)
    return [tmp_path / "runs" / name for name in ("x_prior", "x_post", "x_sre2l")]


def test_methods_of_several_runs_stand_on_one_sheet(compared, tmp_path):
    runs = read_runs(compared)
    found = image_folders(collect(runs), runs)
    assert list(found) == ["Teddy prior", "Teddy post", "SRe2L", "real images"]
    report(compared, tmp_path / "out", "mine")
    assert (tmp_path / "out" / "results.md").read_text().startswith("# mine\n")
    picture = np.asarray(Image.open(tmp_path / "out" / "figures" / "methods.png"))
    # From the right lower corner of the sheet: 12 rows of 8 x 8 pixels, each shown 14 x 14 times; the blue tells the folder,
    # the red the class, the green the place.
    grid = Grid(rows=12, columns=3, cell=112, scale=14, left=0, top=0)
    blues = [10, 20, 30, 200]
    seen = picture[:, picture.shape[1] - 16 - 56].tolist()
    colours = [colour for colour, before in zip(seen[1:], seen, strict=False) if colour != before and colour[0] < 100]
    colours = [colour for colour in colours if colour[1] == 40]  # the third image of each class
    assert colours == [[20 + 10 * label, 40, blue] for label in range(3) for blue in blues]
    assert grid.size[0] < picture.shape[1]


def test_images_that_are_gone_are_passed_over(compared, tmp_path):
    for place in (tmp_path / "png").iterdir():
        place.rename(place.with_name(f"{place.name}_elsewhere"))
    report(compared, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "figures").iterdir()] == ["ablation_experiment.png"]


def test_methods_compared_in_words(compared):
    said = sentences(collect(read_runs(compared)))
    assert len(said) == 4  # both of Teddy's pools against SRe2L and random
    assert all("Teddy" in sentence for sentence in said)


def test_one_run_alone_has_bars(compared, tmp_path):
    report(compared[:1], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "figures").iterdir()) == ["accuracy.png", "methods.png"]


def test_runs_of_different_datasets_have_bars(tmp_path, make_run, students):
    for name in ("cifar", "tiny"):
        make_run(
            tmp_path / name, students("teddy", [50.0], name, dataset=name), {"name": name}, [f"+experiment={name}"]
        )
    report([tmp_path / "cifar", tmp_path / "tiny"], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "figures").iterdir()] == ["accuracy.png"]


def test_a_run_s_own_report_is_not_overwritten(compared, tmp_path):
    with pytest.raises(BadInput, match="is the folder of a run"):
        report(compared, compared[0])
    assert (compared[0] / "results.md").read_text() == "its own report"
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written to"):
        report(compared, tmp_path / "file" / "out")
