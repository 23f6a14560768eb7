"""The record of ``experiments/faults``: runs that are killed, and told to stop, at seeded moments.

PYTHONPATH=. python scripts/faults.py --kill 100 --term 50
"""

from __future__ import annotations

import argparse
import csv
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kill", type=int, default=100, help="SIGKILLs")
    parser.add_argument("--term", type=int, default=50, help="SIGTERMs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("experiments/faults/kills.csv"))
    args = parser.parse_args()
    # Not above: the processes that it starts import this file.
    from tests.pipeline.conftest import TINY, Workspace, process_starter
    from tests.pipeline.faults import EVERY_EPOCH, SMALL, torment

    started, rounds = time.monotonic(), []
    with process_starter() as start, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "uncut").mkdir()
        workspace = Workspace(folder / "uncut", start)
        uncut = workspace.run(*SMALL, base=TINY, settings=EVERY_EPOCH)
        for kills, how in ((args.kill, signal.SIGKILL), (args.term, signal.SIGTERM)):
            rounds += torment((uncut, workspace), folder, TINY, kills, how, args.seed)
    with args.out.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, asdict(rounds[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, rounds))
    equal = sum(one.equal for one in rounds)
    print(f"{len(rounds)} kills, {equal} of them in runs with equal results, {time.monotonic() - started:.0f} s")
    for (how, stage, method), count in sorted(Counter((one.how, one.stage, one.method) for one in rounds).items()):
        print(f"{how} in {stage or 'between two pieces of work'} {method}: {count}")
    return 0 if equal == len(rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
