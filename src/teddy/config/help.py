"""``--help`` for people: the lists of groups without the files that are only for other files."""

from __future__ import annotations

import re
import textwrap

WIDTH = 118
_GROUP = re.compile(r"^([a-z_/]+): (.+)$")


def tidy(text: str) -> str:
    """Hydra's help, with the lists of options wrapped and without schemas and shared parts (``_name``), which nobody chooses."""
    return "\n".join(_line(line) for line in text.split("\n"))


def _line(line: str) -> str:
    match = _GROUP.match(line)
    if match is None:
        return line
    group, options = match[1], [word for word in match[2].split(", ") if word[0] != "_" and word != "schema"]
    return textwrap.fill(f"{group}: {', '.join(options)}", WIDTH, subsequent_indent="    ", break_on_hyphens=False)
