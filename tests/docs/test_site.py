"""The site builds without a warning, answers within two clicks what people ask first, and loads nothing from elsewhere."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

import site_parts


@pytest.fixture(scope="module")
def site(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("mkdocs").addHandler(handler)
    try:
        build(load_config(str(repo_root / "mkdocs.yml"), site_dir=str(out), strict=True))
    finally:
        logging.getLogger("mkdocs").removeHandler(handler)
    assert [record.getMessage() for record in records] == []
    return out


def links(page: Path) -> set[Path]:
    """Pages of the site that a page links to."""
    found = re.findall(r'href="([^"#:]+\.html)[^"]*"', page.read_text())
    return {(page.parent / one).resolve() for one in found}


def test_how_long_imagenet_takes_on_an_a100_is_one_click_away(site: Path) -> None:
    page = site / "scaling.html"
    assert page in links(site / "index.html")
    text = re.sub(r"<[^>]+>", "", page.read_text())
    assert "one A100 take about 28 hours" in text
    (row,) = re.findall(r"A100 80 GB\s+10\s+([\d.\s]+)", text)
    assert float(row.split()[-1]) == 28


def test_every_page_is_two_clicks_away(site: Path) -> None:
    first = links(site / "index.html")
    second = first | {page for one in first for page in links(one)}
    missing = {page for page in site.rglob("*.html") if page.name != "404.html"} - second
    assert missing == set()


def test_nothing_is_loaded_from_elsewhere_and_no_mark_is_left(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert not re.findall(r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//', text), page
        assert not re.findall(r'<link[^>]+rel="(?:stylesheet|preconnect)"[^>]+href="(?:https?:)?//', text), page
        assert "generated: " not in text, page


def test_every_method_has_its_paper_or_is_none() -> None:
    rows = site_parts.methods().splitlines()[2:]
    without = {row.split("`")[1] for row in rows if not re.search(r"\d{4}\b", row.split(" | ")[1])}
    assert without <= {"random", "detection/random", "foreign"}


def test_published_numbers_are_the_experiments() -> None:
    assert "| imagenet | teddy | resnet18 | paper | 10 | 34.1 ± 0.1 |" in site_parts.published()


def test_text_of_comments_is_no_markup() -> None:
    assert site_parts.cell("a <b> *c* `*d*|`") == "a &lt;b> \\*c\\* `*d*\\|`"
