"""``--help`` for people: what each group offers, without the files that are only for other files.

Hydra's own help composes the configuration and, for each group, a copy of its defaults; it takes seconds where a list of files
will do.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from teddy.config.paths import config_dir

WIDTH = 118
_GROUP = re.compile(r"^([a-z_/]+): (.+)$")


def help_text(more: Iterable[Path] = ()) -> str:
    """The text of ``conf/hydra/help/teddy.yaml`` with the groups and options of ``conf/`` and of further folders like it."""
    from omegaconf import OmegaConf

    parts: Any = OmegaConf.to_container(OmegaConf.load(config_dir() / "hydra" / "help" / "teddy.yaml"))
    groups: dict[str, set[str]] = {}
    for folder in (config_dir(), *more):
        for file in folder.rglob("*.yaml"):
            groups.setdefault(file.parent.relative_to(folder).as_posix(), set()).add(file.stem)
    named = sorted(group for group in groups if group != "." and group.split("/")[0] != "hydra")
    text: str = parts["template"]
    for name, value in {
        "${hydra.help.header}": parts["header"],
        "${hydra.help.footer}": parts["footer"],
        "$APP_CONFIG_GROUPS": "".join(f"{group}: {', '.join(sorted(groups[group]))}\n" for group in named),
    }.items():
        text = text.replace(name, value)
    return tidy(text) + "\n"


def tidy(text: str) -> str:
    """A help text with wrapped lists of options, without schemas and shared parts (``_name``), which nobody chooses."""
    return "\n".join(_line(line) for line in text.split("\n"))


def _line(line: str) -> str:
    match = _GROUP.match(line)
    if match is None:
        return line
    group, options = match[1], [word for word in match[2].split(", ") if word[0] != "_" and word != "schema"]
    return textwrap.fill(f"{group}: {', '.join(options)}", WIDTH, subsequent_indent="    ", break_on_hyphens=False)
