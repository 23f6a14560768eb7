"""A self-contained HTML page: pictures inside, no script, readable on a phone."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from teddy.report import formats
from teddy.report.tables import OURS

CSS = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 60rem; margin: 0 auto;
       padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; } th, td { padding: .3rem .7rem; text-align: left; border-bottom: 1px solid
#e4e4e4; } th { white-space: nowrap; } td.number, th.number { text-align: right; white-space: nowrap;
     font-variant-numeric: tabular-nums; }
tr.ours { font-weight: 600; background: #eef5fb; }
img { max-width: 100%; height: auto; } figure { margin: 0; } figcaption, .note { color: #555; font-size:
.9rem; } pre { background: #f6f6f6; padding: .7rem; overflow-x: auto; font-size: .85rem; }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .3rem 1rem; }
dt { color: #555; } dd { margin: 0; overflow-wrap: anywhere; }
"""


def render(
    *,
    title: str,
    table: tuple[Sequence[str], Sequence[Sequence[str]]],
    notes: Sequence[str],
    sentences: Sequence[str],
    pictures: Sequence[tuple[str, str, Path]],
    facts: Mapping[str, str],
    command: str,
    config_yaml: str,
) -> str:
    """The page as text.

    Args:
        table: column heads and rows as text.
        pictures: (heading, caption, PNG file); the files' bytes become part of the page.
        facts: names and texts for the section "What ran".
    """
    parts = [f"<h1>{escape(title)}</h1>", _table(*table)]
    parts += [f'<p class="note">{escape(note)}</p>' for note in notes]
    parts += ["<ul>", *(f"<li>{escape(sentence)}</li>" for sentence in sentences), "</ul>"] if sentences else []
    for heading, caption, path in pictures:
        data = base64.b64encode(path.read_bytes()).decode()
        parts.append(
            f"<h2>{escape(heading)}</h2>\n<figure>"
            f'<img alt="{escape(heading)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
    parts += ["<h2>What ran</h2>", f"<pre>{escape(command)}</pre>", "<dl>"]
    parts += [f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items()]
    parts += [
        "</dl>",
        f"<details><summary>The configuration</summary><pre>{escape(config_yaml)}</pre></details>",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    kinds = [' class="number"' if number else "" for number in formats.numeric(head, rows)]
    heads = "".join(f"<th{kind}>{escape(name)}</th>" for name, kind in zip(head, kinds, strict=True))
    lines = []
    for row in rows:
        cells = "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row, kinds, strict=True))
        ours = ' class="ours"' if row[head.index("method")] == OURS else ""
        lines.append(f"<tr{ours}>{cells}</tr>")
    return f'<div class="wide"><table>\n<tr>{heads}</tr>\n' + "\n".join(lines) + "\n</table></div>"
