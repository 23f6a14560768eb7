import base64
import csv
import hashlib
import html
import json
import re
from html.parser import HTMLParser

import pytest

from teddy.config.errors import UserError
from teddy.report.comparison import compare
from teddy.report.page import write_report
from teddy.report.pictures import image_sets, sets_to_draw
from teddy.report.runs import read_runs


@pytest.fixture(scope="module")
def report(make_full_run, tmp_path_factory):
    """A run with its report, whose figures take seconds; tests leave it as it is."""
    folder = make_full_run(tmp_path_factory.mktemp("reported"))
    assert write_report(folder) == folder / "index.html"
    return folder


def test_markdown_holds_what_was_measured_and_what_ran(report):
    text = (report / "results.md").read_text()
    assert text.startswith("# toy <IPC 10>\n")
    assert "| ours | stored | paper | 61.0 ± 1.0 | +10.0 | 63.5 ± 0.2 |" in text
    assert "| real | stored | paper | 51.0 ± 1.0 |  |  |" in text
    assert "*In all rows: student convnet3, IPC 10, seeds 3.*" in text
    assert "Ours beats random real images by 10.0 points" in text
    for fact in (
        "hardware: 1 GPU",
        "pool 1:05, synthesis 3 s",
        "label storage (MB): 1.25",
        "pool f00d",
        "+experiment=toy",
    ):
        assert fact in text
    assert "18 trained in 9:00 altogether, peak memory 900 MB" in text


def test_every_picture_that_markdown_links_exists(report):
    links = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (report / "results.md").read_text())
    names = "accuracy images_ours iterations_ours terms_ours images_other images_real pool methods"
    assert links == [f"figures/{name}.png" for name in names.split()]
    assert all((report / link).stat().st_size > 500 for link in links)


def test_the_csv_has_a_line_for_every_student(report):
    with (report / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 18
    assert [(row["method"], row["seed"], row["top1"]) for row in rows][:2] == [
        ("ours", "0", "60.0"),
        ("ours", "1", "61.0"),
    ]
    assert rows[0]["baseline"] == "False"


class Outline(HTMLParser):
    """Checks that tags close in order and collects what the page loads."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "input", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_whole_and_needs_nothing_else(report):
    page = (report / "index.html").read_text()
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert 'name="viewport"' in page
    assert all(source.startswith("data:image/png;base64,") for source in outline.sources)
    # Three methods with three images of three classes, three snapshots of these classes, and three charts.
    assert len(outline.sources) == 3 * 3 * 3 + 3 * 3 + 3
    chart = outline.sources[-3].removeprefix("data:image/png;base64,")
    assert base64.b64decode(chart) == (report / "figures" / "accuracy.png").read_bytes()
    for text in ("toy <IPC 10>", "note: a < b", "61.0 ± 1.0", "python -m teddy +experiment=toy 'synthesis.ipc=10'"):
        assert text in outline.text
    assert page.count('class="first">') == 2


def test_markup_in_names_is_shown_not_run(tmp_path, make_run, students):
    rows = students("<script>alert(1)</script>", [50.0]) + students("real", [40.0])
    folder = make_run(tmp_path / "run", rows, record={"command": "<b>", "facts": {"x": "<i>"}})
    page = write_report(folder).read_text()
    assert page.count("<script") == 1, "the page's own, and by its policy no other runs"
    own = page[page.index("<script>") + 8 : page.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html.unescape(page)
    assert "&lt;script&gt;alert(1)" in page
    assert "<b>" not in page
    assert "<i>" not in page


def test_names_of_a_strangers_run_lead_to_no_file_outside_its_report(tmp_path, make_run, make_images, students):
    make_images(tmp_path / "run" / "images", blue=0)
    (tmp_path / "run").rename(tmp_path / "kept")
    name = "a/../../../../escaped"
    folder = make_run(
        tmp_path / "run", students(name, [50.0]), record={"methods": {name: {"title": "A", "images": "images"}}}
    )
    (tmp_path / "kept" / "images").rename(folder / "images")
    (tmp_path / "kept").rmdir()
    write_report(folder)
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    (picture,) = (folder / "figures").glob("images_*")
    assert picture.name.endswith("escaped.png")


def test_the_table_for_latex_has_the_same_cells(report):
    text = (report / "results.tex").read_text()
    assert "ours & stored & paper & \\textbf{61.0 $\\pm$ 1.0} & $+10.0$ & 63.5 $\\pm$ 0.2 \\\\" in text.splitlines()
    assert text.startswith("% toy <IPC 10>, student convnet3")


@pytest.mark.parametrize("method", ["real", "other"])
def test_a_single_method_has_a_report(tmp_path, make_run, students, method):
    folder = make_run(tmp_path / "run", students(method, [50.0, 51.0, 52.0]))
    write_report(folder)
    text = (folder / "results.md").read_text()
    assert f"| {method} | stored | paper | 51.0 ± 1.0 |" in text
    assert ("stands without a baseline" in text) == (method == "other")
    assert [path.name for path in folder.glob("figures/*")] == ["accuracy.png"]


def test_the_same_run_again_gives_the_same_report(report):
    before = {name: (report / name).read_bytes() for name in ("results.md", "results.csv", "results.tex", "index.html")}
    write_report(report)
    assert before == {name: (report / name).read_bytes() for name in before}


def test_a_sweep_has_one_report(teachers_sweep, tmp_path):
    (teachers_sweep / "3").mkdir()
    (teachers_sweep / "3" / "config.yaml").write_text("name: toy\n")
    page = write_report(teachers_sweep, out=tmp_path / "out")
    assert page == tmp_path / "out" / "index.html"
    text = (tmp_path / "out" / "results.md").read_text()
    assert text.startswith("# toy: synthesis.teachers_per_block\n")
    assert "| ours | 2 | stored | paper | 54.0 ± 1.0 | +5.0 |" in text
    assert "| real | any | stored | paper | 49.0 ± 1.0 |" in text
    assert "In all rows: student convnet3" in text
    assert "3 has no results and is left out" in text
    assert "| synthesis.teachers_per_block | 1 | 2 | 3 |" in text
    links = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert links == ["figures/ablation_synthesis_teachers_per_block.png", "figures/efficiency.png"]
    assert page.read_text().count("data:image/png") == 2
    assert "1 more settings differ" in page.read_text()
    assert "The configuration of the first run" in page.read_text()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("results.md", "results.tex", "results.csv", "index.html", "figures")
    }


@pytest.fixture
def compared(tmp_path, make_run, make_images, students):
    """Three experiments as single runs; the first two share their random images."""
    shared = make_images(tmp_path / "png" / "real", 200)
    for number, (name, method) in enumerate([("x_prior", "ours"), ("x_post", "ours"), ("x_other", "other")]):
        images = make_images(tmp_path / "png" / name, 10 * (1 + number))
        methods = {method: {"title": method.title(), "images": str(images)}}
        if method == "ours":
            methods["real"] = {"title": "real images", "images": str(shared)}
        record = {"name": name, "methods": methods, "class_names": ["Ant", "Bee", "Cat"]}
        rows = students(method, [50.0 + number, 51.0 + number], name) + students("real", [45.0, 46.0], "same")
        make_run(tmp_path / "runs" / name, rows, {"name": name}, {"experiment": name}, record)
    return [tmp_path / "runs" / name for name in ("x_prior", "x_post", "x_other")]


def test_methods_of_several_runs_stand_in_one_grid(compared, tmp_path):
    runs = read_runs(compared)
    names = ["Ours, prior", "Ours, post", "real images", "Other"]
    assert list(image_sets(compare(runs))["toy"]) == names
    write_report(*compared, out=tmp_path / "out", title="mine")
    assert (tmp_path / "out" / "results.md").read_text().startswith("# mine\n")
    figures = sorted(path.name for path in (tmp_path / "out" / "figures").iterdir())
    assert figures == ["ablation_experiment.png", "methods.png"]


def test_of_many_sets_the_grid_has_the_first_of_each_method(compared):
    run = read_runs(compared)[0]
    sets = {f"Ours {number}": ("ours", run) for number in range(6)} | {
        f"real {number}": ("real", run) for number in range(6)
    }
    assert sets_to_draw(sets) == sets
    assert list(sets_to_draw({**sets, "Other": ("other", run)})) == ["Ours 0", "real 0", "Other"]


@pytest.mark.parametrize("folders", [True, False])
def test_images_that_are_gone_are_passed_over(compared, tmp_path, folders):
    if folders:
        (tmp_path / "png").rename(tmp_path / "elsewhere")
    for file in (tmp_path / "png").rglob("*.png"):
        file.unlink()
    write_report(*compared, out=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "figures").iterdir()] == ["ablation_experiment.png"]


def test_runs_of_different_datasets_have_bars(tmp_path, make_run, students):
    for name in ("cifar", "tiny"):
        rows = students("ours", [50.0], name, dataset=name)
        make_run(tmp_path / name, rows, {"name": name}, {"experiment": name})
    write_report(tmp_path / "cifar", tmp_path / "tiny", out=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "figures").iterdir()] == ["accuracy.png"]


def test_a_run_s_own_report_is_not_overwritten(compared, tmp_path):
    with pytest.raises(UserError, match="is the folder of a run"):
        write_report(*compared, out=compared[0])
    assert (compared[0] / "results.md").read_text() == "its own report"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written to"):
        write_report(*compared, out=tmp_path / "file" / "out")


def test_facts_of_several_runs(tmp_path, make_run, students):
    for job, precision in enumerate(("float32", "bfloat16", "float32")):
        facts = {"hardware": f"cpu, {precision}", "versions": {"torch": "2.11"}, "seconds": {"pool": 60 + job}}
        facts |= {"label_storage_mb": 0.0, "pools": {}}  # under hard labels, and without teachers
        rows = students("ours", [50.0 + job], f"{job}")
        make_run(tmp_path / str(job), rows, {}, {"seed": job}, {"facts": facts})
    write_report(tmp_path, out=tmp_path / "out")
    text = (tmp_path / "out" / "results.md").read_text()
    assert "- hardware: cpu, float32; cpu, bfloat16\n- versions: torch 2.11\n- every student" in text
    assert "| key | run 0 | run 1 | run 2 |\n| --- | ---: | ---: | ---: |\n| seed | 0 | 1 | 2 |\n" in text


def test_methods_of_an_earlier_command_in_the_same_folder_come_last(full_run, students):
    with (full_run / "results.jsonl").open("a") as stream:
        stream.write(json.dumps(students("earlier", [50.0])[0]) + "\n")
    write_report(full_run)
    assert list(read_runs([full_run])[0].methods) == ["ours", "other", "real", "earlier"]


def test_no_figure_stays_open(report):
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []


def test_a_damaged_log_is_one_sentence(full_run):
    with (full_run / "results.jsonl").open("a") as stream:
        stream.write(json.dumps({"dataset": "toy"}) + "\n")
    with pytest.raises(UserError, match=r"results\.jsonl, line 19, is not a result"):
        write_report(full_run)
