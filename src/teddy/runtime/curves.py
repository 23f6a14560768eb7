"""Curves on disk: CSV files of scalars over steps that survive a kill and may gain columns on the way."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from teddy.artifacts.store import atomic_write


class CurveFile:
    """A CSV file of scalars over steps whose columns may grow; every row is on disk when :meth:`append`
    returns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []  # none until the header is on disk
        if path.is_file() and path.stat().st_size:
            text = path.read_text()
            if not text.endswith("\n"):  # a killed run left half a row
                text = text[: text.rfind("\n") + 1]
                atomic_write(path, text)
            self.columns = next(csv.reader(text.splitlines()), [])

    def append(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds one row; a scalar that was never seen before becomes a new column, empty in the older rows."""
        new = [name for name in ("step", *scalars) if name not in self.columns]
        if new:
            self._widen(new)
        with self.path.open("a", newline="") as stream:
            csv.DictWriter(stream, self.columns, lineterminator="\n").writerow({"step": step, **scalars})

    def _widen(self, new: list[str]) -> None:
        rows = read_curve(self.path) if self.path.is_file() else []
        self.columns += new

        def write(partial: Path) -> None:
            with partial.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, self.columns, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)

        atomic_write(self.path, write)


def read_curve(path: Path) -> list[dict[str, str]]:
    """The rows of a curve file as text; a cell that was never logged is the empty string."""
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))
