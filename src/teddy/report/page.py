"""The report of one or several runs: results.md, results.tex, results.csv, figures, and all of it in one index.html."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup

from teddy.artifacts.store import atomic_write
from teddy.config.errors import UserError
from teddy.report import tables
from teddy.report.browser import browsers, data_uri
from teddy.report.comparison import Comparison, compare
from teddy.report.pictures import draw_pictures
from teddy.report.runs import jobs_of, read_runs, unfinished
from teddy.report.sentences import notes, sentences
from teddy.runtime.progress import duration

SENTENCES = 6  # that are seen at once; the others are folded


def write_report(*folders: Path, out: Path | None = None, title: str = "") -> Path:
    """Write the report on runs and sweeps and return the path of ``index.html``.

    It goes to ``out``, by default a single folder itself, else ``report``. Its title is by default the names of the runs, to
    which a sweep adds the keys that it varies.

    Raises:
        UserError: ``out`` cannot be written to, or is one of several runs and would lose its own report; a folder is no run,
            or has a damaged file.
    """
    out = out or (folders[0] if len(folders) == 1 else Path("report"))
    comparison = compare(read_runs(folders))
    runs = comparison.runs
    if len(runs) > 1 and out.resolve() in [run.folder.resolve() for run in runs]:
        raise UserError(f"{out} is the folder of a run and keeps its own report; give another folder with --out.")
    try:
        (out / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out} cannot be written to ({error.strerror}); give another folder with --out.") from error
    title = title or _title(folders, comparison)
    missing = unfinished(folders)
    for sentence in missing:
        logging.getLogger("teddy").warning(sentence)
    commands = dict.fromkeys(run.record["command"] for run in runs if run.record.get("command"))
    shared, table = tables.condense(tables.text_table(comparison))
    same = [f"In all rows: {', '.join(shared)}."] if shared else []
    brackets = "; in brackets: the paper" * bool(comparison.rows.paper.notna().any())
    differences = tables.differences(comparison)
    first = comparison.first_method(comparison.rows)
    here = Path(__file__).parent
    script = (here / "page.js").read_text()
    content: dict[str, Any] = {
        "title": title,
        "table": table,
        "by_ipc": tables.ipc_table(comparison),
        "unit": f"{comparison.measure.replace('top', 'Top')} in percent{brackets}.",
        "always": [name for name in table if name in tables.ALWAYS],
        "emphasized": [method == first for method in comparison.rows.method],
        "notes": [*same, *notes(comparison), *missing],
        "sentences": sentences(comparison),
        "shown": SENTENCES,
        "browsers": browsers(comparison),
        "pictures": draw_pictures(comparison, out / "figures"),
        "costs": tables.cost_table(comparison),
        "differences": differences,
        "varied": int(differences.key.isin(list(comparison.values)).sum()),
        "command": "\n".join(commands) or f"python -m teddy.report {' '.join(map(str, folders))}",
        "facts": _facts(comparison),
        "config": runs[0].config,
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    templates = Environment(
        loader=FileSystemLoader(here), autoescape=select_autoescape(["html.j2"]), trim_blocks=True, lstrip_blocks=True
    )
    templates.globals |= {"numeric": tables.numeric_columns, "markdown": tables.markdown, "data_uri": data_uri}
    atomic_write(out / "results.csv", tables.students_csv(comparison))
    atomic_write(out / "results.tex", tables.latex(comparison, title))
    atomic_write(out / "results.md", templates.get_template("results.md.j2").render(content))
    return atomic_write(out / "index.html", templates.get_template("page.html.j2").render(content))


def _title(folders: Sequence[Path], comparison: Comparison) -> str:
    keys = [key for key in comparison.values if key != "name"] if any(map(jobs_of, folders)) else []
    every = list(dict.fromkeys(run.name for run in comparison.runs)), keys
    names, varied = (", ".join(some[:3]) + f" and {len(some) - 3} more" * (len(some) > 3) for some in every)
    return f"{names}: {varied}" if keys else names


def _facts(comparison: Comparison) -> dict[str, str]:
    """Collect what ran, on what and for how long; of facts that differ, at most two are shown."""
    runs, results = comparison.runs, comparison.students
    facts = {"runs": str(len(runs))} if len(runs) > 1 else {}
    peak = f"peak memory {results.peak_memory_mb.max():,.0f} MB"
    facts["students"] = f"{len(results)} trained in {duration(sum(results.seconds))} altogether, {peak}"
    known = [run.record.get("facts", {}) for run in runs]
    for name in dict.fromkeys(name for one in known for name in one):
        texts = dict.fromkeys(_fact(name, one[name]) for one in known if one.get(name))
        if 1 <= len(texts) <= 2:
            facts[name.replace("_mb", " (MB)").replace("_", " ")] = "; ".join(texts)
    return facts


def _fact(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {duration(one) if name == 'seconds' else one}" for key, one in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
