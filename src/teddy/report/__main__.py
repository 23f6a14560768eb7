"""``python -m teddy.report RUN...``: one report on several runs or sweeps."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from teddy.config.errors import BadInput, StageFailed


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}; '{self.prog} --help' shows the usage.")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code: 0 done, 1 failed, 2 the input cannot be used."""
    try:
        return _main(argv)
    except BadInput as error:
        return _say(error, 2)
    except (StageFailed, OSError) as error:
        return _say(error, 1)


def _main(argv: Sequence[str] | None) -> int:
    parser = _Parser(
        prog="python -m teddy.report",
        description="One report on several runs: a table (Markdown, LaTeX, CSV), charts of what was varied, sheets of images, "
        "and all of it in index.html.",
        epilog="example: python -m teddy.report outputs/sweeps/quickstart/2026-01-31_12-00-00",
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="the folder of a run or of a sweep, which stands for its jobs"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where to write; default: the folder of a single sweep, else ./report",
    )
    parser.add_argument(
        "--name", default="", metavar="TITLE", help="the report's title; default: the names of the runs"
    )
    args = parser.parse_args(argv)
    logging.basicConfig(format="teddy.report: %(message)s", level=logging.WARNING)

    # Only now, so that --help is quick.
    from rich.console import Console

    from teddy.report import sweep as sweeps
    from teddy.report.runs import jobs_of, read_runs
    from teddy.report.sweep_page import sentences, title_of, write

    alone = len(args.runs) == 1 and bool(jobs_of(args.runs[0]))
    out = args.out or (args.runs[0] if alone else Path("report"))
    sweep = sweeps.collect(read_runs(args.runs))
    title = args.name or title_of(args.runs, sweep.runs)
    page = write(sweep, args.runs, out, title)
    console = Console()
    console.print(sweeps.rich_table(sweep, title))
    for line in sentences(sweep):
        console.print(line, markup=False)
    console.print(f"Report: {page}", soft_wrap=True, markup=False)
    return 0


def _say(error: Exception, code: int) -> int:
    print(f"teddy.report: {' '.join(str(error).split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
