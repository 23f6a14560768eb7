"""Repeats what experiments/ records: `python scripts/experiments.py [NAME ...]`, or `make experiments NAME=figure3a`.

Each folder of experiments/ has a record.yaml: what the paper claims and prints, the commands (`full`, and `mini` for a
CPU), and what differs. This script runs the mini commands, has `teddy.report` draw table and figures, and writes the folder's
README.md. What is in the store is not computed again. Words after `--` go to every command, for example where the data lie:

    python scripts/experiments.py cifar10_ipc10 -- dataset=hf dataset.name=cifar10 dataset.root=FOLDER
"""

from __future__ import annotations

import argparse
import csv
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "experiments"
LEFT_OUT = re.compile(r"^- (every student|all on one page|the table for LaTeX|run \d+):")


def main() -> int:
    """Runs the experiments that are named, or all of them."""
    own, _, words = (" ".join(sys.argv[1:])).partition(" -- ") if "--" in sys.argv else (" ".join(sys.argv[1:]), "", "")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    known = sorted(path.parent.name for path in RECORDS.glob("*/record.yaml"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(known)}")
    names = parser.parse_args(own.split()).names or known
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"there is no record {unknown[0]!r}; choose from {', '.join(known)}")
    for name in names:
        repeat(name, words.split())
    return 0


def repeat(name: str, words: Sequence[str]) -> None:
    """Runs one record's mini commands, and writes its table, figures and README.md."""
    folder = RECORDS / name
    record = yaml.safe_load((folder / "record.yaml").read_text())
    outputs = Path("outputs", "experiments", name, time.strftime("%Y-%m-%d_%H-%M-%S"))
    runs = []
    for index, command in enumerate(record["mini"]):
        runs.append(outputs / str(index))
        where = [f"hydra.run.dir={runs[-1]}", f"hydra.sweep.dir={runs[-1]}"]
        subprocess.run([sys.executable, "-m", "teddy", *command.split(), *words, *where], cwd=ROOT, check=True)
    places = [str(run) for run in runs]
    report = [sys.executable, "-m", "teddy.report", *places, "--out", str(folder), "--name", record["title"]]
    subprocess.run(report, cwd=ROOT, check=True)
    (folder / "README.md").write_text(
        readme(record, (folder / "results.md").read_text(), spent(folder / "results.csv"))
    )
    for leftover in ("results.md", "index.html"):
        (folder / leftover).unlink()
    print(f"Record: {folder / 'README.md'}")


def spent(rows: Path) -> dict[str, float]:
    """Seconds of work behind the rows of a results.csv, each piece once: students, and what came before them."""
    students: dict[str, float] = {}
    before: dict[tuple[str, str], float] = {}
    with rows.open(newline="") as stream:
        for row in csv.DictReader(stream):
            names, cost = yaml.safe_load(row["fingerprints"]), yaml.safe_load(row["cost"])
            students[names["student"]] = float(row["seconds"])
            for key, name in (("pool_seconds", "pool"), ("synthesis_seconds", "images"), ("labels_seconds", "images")):
                if key in cost:
                    before[key, names[name]] = cost[key]
    found = {"synthesis": 0.0, "labels": 0.0, "students": sum(students.values())}
    for (key, _), seconds in before.items():
        if key != "pool_seconds":  # pools share a training run, so their times do not add up
            found[key.partition("_")[0]] += seconds
    found["pool"] = max((seconds for (key, _), seconds in before.items() if key == "pool_seconds"), default=0.0)
    return found


def readme(record: dict[str, Any], results: str, seconds: dict[str, float]) -> str:
    """The record as a page: the paper's side, the commands, our side."""
    head, _, rest = results.partition("\n## What ran\n")
    facts, _, pictures = rest.partition("\n## ")
    table = head.partition("\n")[2].strip()
    ran = [line for line in facts.splitlines() if line.startswith("- ") and not LEFT_OUT.match(line)]
    minutes = ", ".join(f"{stage} {value / 60:.1f}" for stage, value in sorted(seconds.items()) if value)
    parts = [f"# {record['title']}", f"**The paper.** {record['claim'].strip()}"]
    if record.get("paper"):
        parts.append(record["paper"].strip())
    parts.append("**To run it** as the paper did, and small, on two CPU cores:")
    commands = [f"python -m teddy {command}" for command in record.get("full", [])]
    parts.append("```\n" + "\n".join(commands) + "\n```" if commands else "The paper's own setting is the small one.")
    parts.append("```\n" + "\n".join(f"python -m teddy {command}" for command in record["mini"]) + "\n```")
    if record.get("differs"):
        parts.append(f"**What differs from the paper.** {record['differs'].strip()}")
    parts += ["## What came out", table]
    if record.get("seen"):
        parts.append(f"**Read as:** {record['seen'].strip()}")
    ran.append(f"- minutes of work, other things running beside it or not: {minutes}")
    ran.append(f"- code: commit {commit()}")
    ran.append("- every student: [results.csv](results.csv); the table for LaTeX: [results.tex](results.tex)")
    parts += ["\n".join(ran), f"## {pictures}".strip() if pictures else ""]
    return "\n\n".join(filter(None, parts)) + "\n"


def commit() -> str:
    """The commit that is checked out, and whether files differ from it."""
    git = ["git", "-C", str(ROOT)]
    name = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True).stdout
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "src", "conf"], check=False).returncode
    return name.strip() + (" with changes" if changed else "")


if __name__ == "__main__":
    sys.exit(main())
