"""`python -m benchmarks [--device cpu|cuda] [--only NAME] [--quick]`: one table, and benchmarks/results/<device>.json."""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from pathlib import Path

import lightning
import torch
import torchvision

import teddy
from benchmarks import company, labels, memory, overhead, startup, students, synthesis, teachers
from benchmarks.results import kept_rows, show_results, table, write_results
from benchmarks.setting import Setting, hardware
from teddy.config.errors import BadInput
from teddy.runtime.allocator import keep_freed_memory
from teddy.runtime.precision import resolve_compute

BENCHMARKS = {
    "synthesis": synthesis.rows,
    "memory": memory.rows,
    "labels": labels.rows,
    "students": students.rows,
    "company": company.rows,
    "teachers": teachers.rows,
    "startup": startup.rows,
    "overhead": overhead.rows,
}
RESULTS = Path(__file__).parent / "results"


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", choices=BENCHMARKS, help="one benchmark; the other rows of the file stay")
    parser.add_argument("--quick", action="store_true", help="few repetitions and the small cases only; writes no file")
    args = parser.parse_args(words)
    try:
        compute = resolve_compute(args.device, "auto")
    except BadInput:
        parser.error(f"--device {args.device}: this machine has none")
    keep_freed_memory()  # as every run does; the references have the good of it as well
    rows = []
    with tempfile.TemporaryDirectory(prefix="teddy-benchmarks-") as folder:
        setting = Setting(compute, Path(folder), args.quick)
        for name in [args.only] if args.only else BENCHMARKS:
            start = time.perf_counter()
            for row in BENCHMARKS[name](setting):
                rows.append(row)
                print(f"{row.what}: {row.ratio:.3f}", file=sys.stderr, flush=True)
            print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    device, versions = hardware(compute), found_versions()
    print(f"\n{device}\n\n{table(rows)}")
    if not args.quick:
        path = RESULTS / f"{args.device}.json"
        if args.only:
            rows = kept_rows(path, device, versions, rows) + rows
        write_results(path, device, versions, rows)
        show_results(RESULTS.parent / "README.md", args.device, device, versions, rows)
        print(f"\nWritten to {path}")
    return 0


def found_versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "lightning": lightning.__version__,
        "teddy": teddy.__version__,
    }


if __name__ == "__main__":
    sys.exit(main())
