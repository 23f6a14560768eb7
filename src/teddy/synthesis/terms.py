"""The recorded terms of a method's objective, as a CSV file: a row for each block and recorded iteration."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from teddy.artifacts.store import atomic_write

TERMS = "terms.csv"


def write_terms(folder: Path, names: Sequence[str], histories: Sequence[Sequence[Sequence[float]]]) -> Path:
    """Write ``terms.csv``: block, iteration, then a column for each named term, from the rows of each block's history."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("block", "iteration", *names))
    for block, rows in enumerate(histories):
        writer.writerows([block, *row] for row in rows)
    return atomic_write(folder / TERMS, stream.getvalue())
