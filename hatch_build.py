"""README as the page of a package index shows it, where paths of the repository lead nowhere.

Its pictures and links become addresses below ``Repository`` of ``[project.urls]`` in pyproject.toml. As long as there is none,
a picture is what it shows in words, and of a link its text remains.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)")


def readme(text: str, repository: str | None) -> str:
    """The text with no path of the repository in it."""

    def link(match: re.Match[str]) -> str:
        picture, words, path = match.groups()
        if repository:
            return f"{picture}[{words}]({repository.rstrip('/')}/{'raw' if picture else 'blob'}/HEAD/{path})"
        return f"*{words}: {path} in the source archive*" if picture else words

    return LINK.sub(link, text)


class ReadmeHook(MetadataHookInterface):
    """Sets the description of the package."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = readme(text, metadata.get("urls", {}).get("Repository"))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
