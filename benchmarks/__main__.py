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
from benchmarks import decoding, labels, malloc, memory, overhead, startup, students, synthesis, teachers
from benchmarks.results import kept_rows, show_results, table, write_results
from benchmarks.setting import Setting, hardware
from teddy.config.errors import UserError
from teddy.runtime.device import resolve_device
from teddy.runtime.memory import keep_freed_memory

BENCHMARKS = {
    "synthesis": synthesis.rows,
    "memory": memory.rows,
    "malloc": malloc.rows,
    "labels": labels.rows,
    "students": students.rows,
    "teachers": teachers.rows,
    "decoding": decoding.rows,
    "startup": startup.rows,
    "overhead": overhead.rows,
}
RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", choices=BENCHMARKS, help="one benchmark; the other rows of the file stay")
    parser.add_argument("--quick", action="store_true", help="few repetitions and the small cases only; writes no file")
    args = parser.parse_args(arguments)
    try:
        device_config = resolve_device(args.device, "auto")
    except UserError:
        parser.error(f"--device {args.device}: this machine has no such device")
    keep_freed_memory()  # as in a run
    rows = []
    with tempfile.TemporaryDirectory(prefix="teddy-benchmarks-") as folder:
        setting = Setting(device_config, Path(folder), args.quick)
        for name in [args.only] if args.only else BENCHMARKS:
            start = time.perf_counter()
            for row in BENCHMARKS[name](setting):
                rows.append(row)
                print(f"{row.what}: {row.ratio:.3f}", file=sys.stderr, flush=True)
            print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    device, found = hardware(device_config), versions()
    print(f"\n{device}\n\n{table(rows)}")
    if not args.quick:
        path = RESULTS / f"{args.device}.json"
        if args.only:
            rows = kept_rows(path, device, found, rows) + rows
        write_results(path, device, found, rows)
        show_results(RESULTS.parent / "README.md", args.device, device, found, rows)
        print(f"\nWritten to {path}")
    return 0


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "lightning": lightning.__version__,
        "teddy": teddy.__version__,
    }


if __name__ == "__main__":
    sys.exit(main())
