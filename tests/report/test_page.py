import base64
import csv
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from teddy.report.ledger import Result
from teddy.report.page import write_report
from teddy.runtime.curves import CurveFile

FACTS = dict(dataset="toy", ipc=2, pool="prior", labels="online", protocol="paper", student="resnet18")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    rows = [
        Result(method=method, seed=seed, top1=top1 + seed, seconds=30.0, fingerprints={"pool": "f00d"}, **FACTS)
        for method, top1 in (("teddy", 60.0), ("random", 50.0))
        for seed in range(3)
    ]
    curve = CurveFile(folder / "synthesis.csv")
    for step in range(4):
        curve.append(step, {"synthesis/loss_ce": 4.0 - step, "synthesis/loss_bn": 8.0 - step})
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
    labels = np.asarray([0, 1, 2, 0, 1, 2])
    page = write_report(
        folder / "out",
        rows,
        title="toy <IPC 2>",
        command="python -m teddy +experiment=toy 'synthesis.ipc=2'",
        config_yaml="seed: 0\nnote: a < b\n",
        pool_members=[dict(epoch=e, top1_holdout=10.0 * e, chosen=e > 1) for e in range(1, 4)],
        images={"teddy": (images, labels), "random": (images, labels)},
        class_names=["ant", "bee", "cat"],
        curves=[folder / "synthesis.csv", folder / "missing.csv"],
        paper={"teddy/resnet18/paper/ipc2": [63.5, 0.2], "random/resnet18/paper/ipc10": [51.0]},
        facts={
            "hardware": "1 GPU",
            "seconds": {"pool": 65, "synthesis": 3},
            "label_storage_mb": 1.25,
            "fingerprints": {"pool": "f00d"},
        },
        snapshots=[(0, images), (50, images)],
        snapshot_names=["ant", "bee", "cat", "ant", "bee", "cat"],
    )
    assert page == folder / "out" / "index.html"
    return folder / "out"


def test_markdown_says_what_was_measured_and_what_ran(report):
    text = (report / "results.md").read_text()
    assert text.startswith("# toy <IPC 2>\n")
    assert "| teddy | online | paper | resnet18 | 2 | 3 | 61.0 ± 1.0 | +10.0 | 63.5 ± 0.2 |" in text
    assert "| random | online | paper | resnet18 | 2 | 3 | 51.0 ± 1.0 |  |  |" in text
    assert "Teddy beats random real images by 10.0 points" in text
    for fact in ("hardware: 1 GPU", "pool 1:05, synthesis 3 s", "1.2 MB", "pool f00d", "+experiment=toy"):
        assert fact in text


def test_every_picture_that_markdown_links_exists(report):
    links = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (report / "results.md").read_text())
    names = "accuracy images_teddy images_random methods curves pool iterations"
    assert links == [f"figures/{name}.png" for name in names.split()]
    assert all((report / link).stat().st_size > 500 for link in links)


def test_the_csv_has_a_line_for_every_student(report):
    with (report / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["method"], row["seed"], row["top1"]) for row in rows][:2] == [
        ("teddy", "0", "60.0"),
        ("teddy", "1", "61.0"),
    ]
    assert len(rows) == 6
    assert rows[0]["fingerprints"] == '{"pool": "f00d"}'


class Outline(HTMLParser):
    """Checks that tags close in order and collects what the page loads."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
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
    assert "<script" not in page
    assert len(outline.sources) == 7
    first = outline.sources[0].removeprefix("data:image/png;base64,")
    assert base64.b64decode(first) == (report / "figures" / "accuracy.png").read_bytes()
    assert "toy <IPC 2>" in outline.text
    assert "a < b" in outline.text
    assert "61.0 ± 1.0" in outline.text


def test_the_table_for_latex_has_the_same_cells(report):
    text = (report / "results.tex").read_text()
    row = "teddy & online & paper & resnet18 & 2 & 3 & \\textbf{61.0 $\\pm$ 1.0} & $+10.0$ & 63.5 $\\pm$ 0.2 \\\\"
    assert row in text.splitlines()
    assert text.startswith("% toy <IPC 2>; needs \\usepackage{booktabs}")


@pytest.mark.parametrize("method", ["random", "sre2l"])
def test_a_report_without_teddy(tmp_path, method):
    rows = [Result(method=method, seed=seed, top1=50.0 + seed, **FACTS) for seed in range(3)]
    images = np.zeros((3, 1, 8, 8), np.uint8), np.arange(3)
    write_report(
        tmp_path, rows, title="x", command="x", config_yaml="", images={method: images}, class_names=["a", "b", "c"]
    )
    text = (tmp_path / "results.md").read_text()
    assert f"| {method} | online | paper | resnet18 | 2 | 3 | 51.0 ± 1.0 |" in text
    assert ("stands without a baseline" in text) == (method == "sre2l")
    assert sorted(path.stem for path in tmp_path.glob("figures/*")) == ["accuracy", f"images_{method}"]


def test_a_report_without_results_is_still_a_report(tmp_path):
    page = write_report(tmp_path, [], title="pool only", command="x", config_yaml="")
    assert "pool only" in page.read_text()
    assert not (tmp_path / "figures").exists()
