"""The record of ``experiments/faults``: runs that are killed or told to stop at seeded moments, or whose writes fail.

PYTHONPATH=. python scripts/faults.py --kill 100 --term 50
"""

from __future__ import annotations

import argparse
import csv
import errno
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
    parser.add_argument("--writes", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("experiments/faults/kills.csv"))
    args = parser.parse_args()
    # Not above: the processes that it starts import this file.
    from tests.pipeline.conftest import TINY, Workspace, process_starter
    from tests.pipeline.faults import EVERY_EPOCH, SMALL, refuse_writes, rows_of, torment

    started, rounds = time.monotonic(), []
    if args.writes:
        with process_starter() as start, tempfile.TemporaryDirectory() as name:
            places = {word: Workspace(Path(name, word), start) for word in ("uncut", "ENOSPC", "EROFS")}
            for place in places.values():
                place.folder.mkdir()
            uncut = places["uncut"].run(base=TINY, settings=EVERY_EPOCH)
            for word in ("ENOSPC", "EROFS"):
                names, done = refuse_writes(places[word], getattr(errno, word), 1, base=TINY)
                equal = places[word].results() == places["uncut"].results() and rows_of(done) == rows_of(uncut)
                print(
                    f"{word}: {len(names)} writes refused in turn, equal results: {equal}, {time.monotonic() - started:.0f} s"
                )
        return 0
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
