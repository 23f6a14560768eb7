"""The page in a real browser: what is seen, clicked and typed, and that nothing leaves the machine."""

import base64
import io
import json
import os
import re
import shutil

import pytest
from PIL import Image

from teddy.report.browser import browsers
from teddy.report.comparison import compare
from teddy.report.page import write_report
from teddy.report.runs import read_runs

HOSTILE = "<img src=http://127.0.0.1:9/x onerror=alert(1)>"
TABLE = "main > .wide:first-of-type table"


@pytest.fixture(autouse=True)
def no_charts(monkeypatch):
    """Charts take seconds and are tested elsewhere."""
    monkeypatch.setattr("teddy.report.page.draw_pictures", lambda comparison, folder: [])


@pytest.fixture(scope="module")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api")
    known = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CHROME_PATH") or next(filter(None, map(shutil.which, known)), None)
    if path is None:
        pytest.skip(f"none of {', '.join(known)} is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def run(full_run, make_snapshots, tmp_path):
    """A run of three methods, the first two with snapshots, one class with a hostile name."""
    path = full_run / "run.json"
    record = json.loads(path.read_text())
    record["class_names"][2] = HOSTILE
    record["methods"]["other"]["snapshots"] = str(make_snapshots(tmp_path / "snapshots_other", (0, 200)))
    path.write_text(json.dumps(record))
    return full_run


@pytest.fixture
def open_page(chromium):
    """Opens a report from its file; everything that it asks for or complains about fails the test."""
    wrong, contexts = [], []

    def make(path, width=1400, **options):
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "request", lambda request: None if request.url.startswith(("file:", "data:")) else wrong.append(request.url)
        )
        page.goto(path.as_uri())
        return page

    yield make
    for context in contexts:
        context.close()
    assert not wrong


def column(page, number):
    return page.locator(f"{TABLE} tbody tr td:nth-child({number})").all_inner_texts()


def colour(locator):
    """The level of red and blue of a shown image's first pixel."""
    data = locator.get_attribute("src").removeprefix("data:image/png;base64,")
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        red, _, blue = image.convert("RGB").getpixel((0, 0))
    return red, blue


def cell(page, name, method):
    return page.locator(f'[data-class="{name}"] td[data-name="{method}"] img:visible')


def test_a_click_on_a_heading_sorts_the_table(run, open_page):
    page = open_page(write_report(run))
    button = page.locator(f"{TABLE} th", has_text="top-1").get_by_role("button")
    head = page.locator(f"{TABLE} th", has_text="top-1")
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    shown = [float(text.split()[0]) for text in column(page, 4)]
    assert shown == sorted(shown)
    assert len(set(shown)) > 1
    methods = dict(zip(column(page, 4), column(page, 1), strict=True))
    assert methods["46.0 ± 1.0"] == "real", "whole rows move"
    button.focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(text.split()[0]) for text in column(page, 4)] == shown[::-1]
    page.locator(f"{TABLE} th", has_text="paper").get_by_role("button").click()
    assert page.locator(f"{TABLE} th[aria-sort]").count() == 1
    papers = page.locator(f'{TABLE} td[data-name="paper"]').all_inner_texts()
    assert papers == ["63.5 ± 0.2", *[""] * 5], "empty cells last"


def test_the_slider_shows_the_images_on_their_way(run, open_page):
    page = open_page(write_report(run))
    slider = page.locator(".browser input[type=range]")
    assert cell(page, "Ant", "Ours").count() == 3, "the exported images"
    assert colour(cell(page, "Ant", "Ours").first) == (20, 10)
    slider.focus()
    for text, ours, other in (
        ("iteration 200", 120, 160),
        ("iteration 100", 120, 200),
        ("iteration 50", 160, 200),
        ("iteration 0", 200, 200),
        ("iteration 0", 200, 200),
    ):
        page.keyboard.press("ArrowLeft")
        assert page.locator(".browser output").inner_text() == text
        assert slider.get_attribute("aria-valuetext") == text
        assert cell(page, "Bee", "Ours").count() == 1
        assert colour(cell(page, "Bee", "Ours"))[0] == ours + 10
        assert colour(cell(page, "Bee", "the other method"))[0] == other + 10, "its last snapshot up to here"
        assert cell(page, "Bee", "random real images").count() == 3, "what is not optimised stays"
    page.keyboard.press("End")
    assert cell(page, "Ant", "Ours").count() == 3


def test_the_keyboard_chooses_classes_and_iterations(run, open_page):
    page = open_page(write_report(run))
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.tagName") == "SELECT"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "shelf"
    rows = page.locator(".browser [data-class]:visible")
    assert rows.count() == 3
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert rows.evaluate_all("rows => rows.map((row) => row.dataset.class)") == ["Bee"]
    page.keyboard.press("ArrowLeft")
    assert page.locator(".browser output").inner_text() == "iteration 200"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert rows.count() == 3
    page.locator(".browser tbody th").nth(2).get_by_role("button").click()
    assert rows.evaluate_all("rows => rows.map((row) => row.dataset.class)") == [HOSTILE]


@pytest.mark.parametrize("width", [1400, 800, 420])
def test_method_labels_protocol_and_accuracy_are_in_view(run, open_page, width):
    page = open_page(write_report(run), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "only tables scroll sideways"
    for name in ("method", "labels", "protocol", "top-1 %"):
        cells = page.locator(f'{TABLE} td[data-name="{name}"]')
        edges = "cells => cells.map((cell) => [cell.getBoundingClientRect(), cell.scrollWidth - cell.clientWidth])"
        boxes = cells.evaluate_all(edges)
        assert len(boxes) == 6
        assert all(box["left"] >= 0 and box["right"] <= width and hidden <= 1 for box, hidden in boxes), name
    if width == 420:
        shown = page.locator(f"{TABLE} tbody tr").first.inner_text()
        assert "+10.0" in shown, "what does not fit beside stands below"


def test_the_dark_scheme_is_dark(run, open_page):
    levels = {}
    for scheme in ("light", "dark"):
        page = open_page(write_report(run), color_scheme=scheme)
        found = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        levels[scheme] = [sum(map(int, re.findall(r"\d+", text)[:3])) / 3 for text in found]
        assert page.screenshot()[:4] == b"\x89PNG"
    (light, dark_ink), (dark, light_ink) = levels["light"], levels["dark"]
    assert light - dark_ink > 150
    assert light_ink - dark > 150


def test_without_javascript_everything_is_there_and_nothing_is_dead(run, open_page):
    page = open_page(write_report(run), java_script_enabled=False)
    assert page.locator(f"{TABLE} tbody tr").count() == 6
    assert page.locator("button, select, input").locator("visible=true").count() == 0
    assert cell(page, "Ant", "Ours").count() == 3 + 3, "all snapshots and the exported images"


def test_a_sweep_shows_what_differs(teachers_sweep, tmp_path, open_page):
    page = open_page(write_report(teachers_sweep, out=tmp_path / "out"), 420)
    assert page.locator("h2", has_text="What differs between the runs").is_visible()
    row = page.locator("tr", has=page.locator("th", has_text="synthesis.teachers_per_block")).last
    assert row.locator("td").all_inner_texts() == ["1", "2", "3"]
    follows = page.locator("details", has_text="1 more settings differ")
    follows.locator("summary").click()
    assert follows.locator("td").all_inner_texts() == ["0.1", "0.2", "0.3"]
    costs = page.locator('td[data-name="synthesis peak memory mb"]').all_inner_texts()
    assert costs[:3] == ["1,000", "2,000", "3,000"]


def test_many_classes_and_large_images_are_cut_down_and_that_is_said(tmp_path, make_run, make_images, students):
    names = [f"c{index:02}" for index in range(30)]
    folder = make_run(tmp_path / "run", students("ours", [50.0]))
    make_images(folder / "images", 0, names, count=11, size=120)
    (folder / "run.json").write_text('{"methods": {"ours": {"title": "Ours", "images": "images"}}}')
    (browser,) = browsers(compare(read_runs([folder])))
    assert browser.note == "20 of 30 classes, at most 10 images of each class, shrunk to 112 pixels"
    assert [len(cells[0][1]) for cells in browser.rows.values()] == [10] * 20
    data = next(iter(browser.rows.values()))[0][1][0]
    with Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))) as image:
        assert image.size == (112, 112)
