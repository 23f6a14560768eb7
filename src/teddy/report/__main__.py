"""``python -m teddy.report RUN...``: one report on one or several runs or sweeps."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from teddy.config.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 failed, 2 the input cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m teddy.report",
        description="One report on several runs: a table (Markdown, LaTeX, CSV), charts of what was varied, image grids, "
        "and all of it in index.html.",
        epilog="example: python -m teddy.report outputs/sweeps/quickstart/2026-01-31_12-00-00",
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, or of a sweep with its jobs"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: the folder of a single RUN, else ./report")
    parser.add_argument("--name", default="", metavar="TITLE", help="default: the names of the runs")
    args = parser.parse_args(argv)
    logging.basicConfig(format="teddy.report: %(message)s", level=logging.WARNING)

    from teddy.report.page import write_report  # imported late, so that --help is quick
    from teddy.report.tables import show

    try:
        page = write_report(*args.runs, out=args.out, title=args.name)
        show(*args.runs, title=args.name)
        print(f"Report: {page}")
    except (UserError, OSError) as error:
        print(f"teddy.report: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
