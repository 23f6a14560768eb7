"""What MkDocs does beside its own work: files from outside docs/, generated tables, links as they are on disk.

README.md is the first page. A link between files of the repository becomes one between pages; to a file that is no page it is
left out, as nobody knows where the reader has the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from site_parts import filled

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = (
    "README.md",
    "CONTRIBUTING.md",
    "CODE_OF_CONDUCT.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "experiments/**/*.md",
    "experiments/**/*.png",
    "experiments/**/*.csv",
)
LINK = re.compile(r"(```.*?```|`[^`\n]+`)|(!?\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^)\s]+)\)", re.DOTALL)


def on_config(config: Any) -> None:
    """List the records in the navigation."""
    records = [f"experiments/{path.parent.name}/README.md" for path in sorted(ROOT.glob("experiments/*/README.md"))]
    next(item for item in config.nav if "Experiments" in item)["Experiments"] += records


def on_files(files: Any, config: Any) -> None:
    """Add the files from outside docs/."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            place = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, "index.md" if place == "README.md" else place, abs_src_path=str(path)))


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fill in what is generated, and turn the links of the repository into those of the site."""
    here = Path(page.file.abs_src_path).relative_to(ROOT).as_posix()

    def link(match: re.Match[str]) -> str:
        literal, text, target = match.groups()
        if literal or re.match(r"[a-z]+:|#", target):
            return match[0]
        path, _, anchor = target.partition("#")
        place = posixpath.normpath(posixpath.join(posixpath.dirname(here), path))
        place = f"{place}/README.md" if (ROOT / place).is_dir() else place
        uri = "index.md" if place == "README.md" else place.removeprefix("docs/")
        if files.get_file_from_path(uri) is None:
            return text.lstrip("!")[1:-1]
        relative = posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")
        return f"{text}({relative}{'#' if anchor else ''}{anchor})"

    return LINK.sub(link, filled(markdown))
