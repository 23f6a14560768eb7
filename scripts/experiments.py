"""Repeats what experiments/ records: `python scripts/experiments.py [NAME ...]`, or `make experiments NAME=figure3a`.

Each folder of experiments/ has a record.yaml: what the paper claims and prints, the commands (`full`, and `mini` for a
CPU), and what differs. This script runs the mini commands, has `teddy.report` draw table and figures, and writes the folder's
README.md. What is in the store is not computed again. Overrides after `--` go to every command, for example the data's folder:

    python scripts/experiments.py cifar10_ipc10 -- dataset=hf dataset.name=cifar10 dataset.root=FOLDER
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "experiments"
LEFT_OUT = re.compile(r"^- (store|every student|all on one page|the table for LaTeX|run \d+):")


def main() -> int:
    """Runs the experiments that are named, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    known = sorted(path.parent.name for path in RECORDS.glob("*/record.yaml"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(known)}")
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    names = parser.parse_args(sys.argv[1:end]).names or known
    if unknown := set(names) - set(known):
        parser.error(f"there is no record {unknown.pop()!r}; choose from {', '.join(known)}")
    for name in names:
        repeat(name, sys.argv[end + 1 :])
    return 0


def repeat(name: str, overrides: Sequence[str]) -> None:
    """Runs one record's mini commands, and writes its table, figures and README.md."""
    folder = RECORDS / name
    record = yaml.safe_load((folder / "record.yaml").read_text())
    outputs = Path("outputs", "experiments", name, time.strftime("%Y-%m-%d_%H-%M-%S"))
    runs = [str(outputs / str(index)) for index in range(len(record["mini"]))]
    for command, run in zip(record["mini"], runs, strict=True):
        where = [f"hydra.run.dir={run}", f"hydra.sweep.dir={run}"]
        subprocess.run([sys.executable, "-m", "teddy", *command.split(), *overrides, *where], cwd=ROOT, check=True)
    report = [sys.executable, "-m", "teddy.report", *runs, "--out", str(folder), "--name", record["title"]]
    subprocess.run(report, cwd=ROOT, check=True)
    (folder / "README.md").write_text(
        readme(record, (folder / "results.md").read_text(), spent(folder / "results.csv"))
    )
    for leftover in ("results.md", "index.html"):
        (folder / leftover).unlink()
    print(f"Record: {folder / 'README.md'}")


def spent(results: Path) -> dict[str, float]:
    """Seconds of work behind a results.csv by stage, each artifact once; pools share a training, so the longest counts."""
    students = pd.read_csv(results, converters={"fingerprints": json.loads, "cost": json.loads})
    rows = pd.DataFrame([{"seconds": row.seconds, **row.fingerprints, **row.cost} for row in students.itertuples()])
    rows = rows.reindex(columns=["student", "images", "seconds", "pool_seconds", "labels_seconds", "synthesis_seconds"])
    images = rows.groupby("images").last()
    return {
        "labels": images.labels_seconds.sum(),
        "pool": rows.pool_seconds.max(),
        "students": rows.groupby("student").seconds.last().sum(),
        "synthesis": images.synthesis_seconds.sum(),
    }


def readme(record: dict[str, Any], results: str, seconds: dict[str, float]) -> str:
    """The record as a page: the paper's side, the commands, our side."""
    head, _, rest = results.partition("\n## What ran\n")
    facts, _, pictures = rest.partition("\n## ")
    ran = [line for line in facts.splitlines() if line.startswith("- ") and not LEFT_OUT.match(line)]
    minutes = ", ".join(f"{stage} {value / 60:.1f}" for stage, value in seconds.items() if value > 0)
    commands = {size: "\n".join(f"python -m teddy {one}" for one in record.get(size, [])) for size in ("full", "mini")}
    ran.append(f"- minutes of work, other things running beside it or not: {minutes}")
    ran.append(f"- code: commit {commit()}")
    ran.append("- every student: [results.csv](results.csv); the table for LaTeX: [results.tex](results.tex)")
    parts = [
        f"# {record['title']}",
        f"**The paper.** {record['claim'].strip()}",
        record.get("paper", "").strip(),
        "**To run it** as the paper did, and small, on two CPU cores:",
        f"```\n{commands['full']}\n```" if commands["full"] else "The paper's own setting is the small one.",
        f"```\n{commands['mini']}\n```",
        f"**What differs from the paper.** {record['differs'].strip()}" if record.get("differs") else "",
        "## What came out",
        head.partition("\n")[2].strip(),
        f"**Read as:** {record['seen'].strip()}" if record.get("seen") else "",
        "\n".join(ran),
        f"## {pictures}".strip() if pictures else "",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def commit() -> str:
    """The commit that is checked out, and whether files differ from it."""
    git = ["git", "-C", str(ROOT)]
    name = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True).stdout
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "src", "conf"], check=False).returncode
    return name.strip() + (" with changes" if changed else "")


if __name__ == "__main__":
    sys.exit(main())
