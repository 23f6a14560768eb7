"""Sweeps: shared work is done once, in whichever process the jobs run; a sweep that was killed ends with the same table."""

import csv
import importlib.util
import itertools
import os
import signal
import subprocess
import sys

import pytest

from tests.pipeline.conftest import NO_REPORT, SRC

TWO_BY_TWO = ("-m", "evaluation.students=[convnet2_w8],[convnet2_w4]", "synthesis.ipc=1,2")
WHOLE = "stages=[pool,synthesis,labels,evaluation,report]"


def students(folder):
    """Every student in the sweep's table, without times."""
    with (folder / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows
    unlike = ("seconds", "memory", "cost")
    return [{key: value for key, value in row.items() if not any(word in key for word in unlike)} for row in rows]


def printed(folder):
    """The table by IPC as Markdown, which comes first; others have every number and what differs between the runs."""
    lines = (folder / "results.md").read_text().partition("\n|")[2].splitlines()
    return list(itertools.takewhile(bool, lines))


def jobs(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.isdecimal())


def test_two_by_two_is_killed_and_ends_with_the_same_table(workspace, tmp_path):
    uncut = workspace.run(*TWO_BY_TWO)
    assert jobs(uncut.folder) == ["0", "1", "2", "3"]
    # Two image sets of each method, labelled once each, four students of each: one training run.
    assert workspace.kinds() == {"images": 4, "labels": 4, "students": 8, "trajectory": 1}
    table = printed(uncut.folder)
    assert len(table) == 2 + 4, "a head, a rule, and two methods under two students"
    assert len(students(uncut.folder)) == 8, "two methods under two students and two IPC"
    assert list((uncut.folder / "figures").glob("*.png"))
    assert (uncut.folder / "index.html").is_file()

    (tmp_path / "cut").mkdir()
    other = type(workspace)(tmp_path / "cut", workspace.start_process)
    killed = other.start(*TWO_BY_TWO).stop_when(lambda: other.kinds().get("students", 0) == 3)
    assert killed.code == -signal.SIGKILL
    assert not (killed.folder / "results.md").exists()
    kept = other.manifests()
    again = other.run(*TWO_BY_TWO)
    assert kept.items() <= other.manifests().items(), "what was finished is not done again"
    assert other.results() == workspace.results()
    assert printed(again.folder) == table
    assert students(again.folder) == students(uncut.folder)


def test_the_command_line_wins_over_a_sweep_file(workspace):
    """Hydra alone would multiply the two and run each job three times."""
    done = workspace.run("+sweep=ipc", "synthesis.ipc=1,2")
    assert jobs(done.folder) == ["0", "1"]
    assert workspace.kinds()["trajectory"] == 1
    assert {row["ipc"] for row in students(done.folder)} == {"1", "2"}


def test_a_failed_job_is_named_and_the_others_are_in_the_table(workspace):
    done = workspace.run("-m", "pool.training.lr=0.05,1e7", WHOLE, code=1)
    assert "teacher training diverged" in done.sentence
    assert (done.folder / "results.md").is_file()
    assert {row["run"] for row in students(done.folder)} == {"0"}
    assert "1 has no results and is left out" in (done.folder / "results.md").read_text()
    assert "Sweep:" in done.out


@pytest.mark.parametrize(
    ("words", "package"),
    [(["+launch=joblib"], "hydra_plugins.hydra_joblib_launcher"), (["hydra/launcher=submitit_local"], "submitit")],
    ids=["joblib", "submitit"],
)
def test_jobs_in_other_processes_share_their_work(workspace, tiny, words, package):
    """Side by side, one job trains while the other waits; the sweep's report is written all the same."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is an optional extra and is not installed")
    words = [*words, NO_REPORT, "-m", "synthesis.ipc=1,2", "hydra.sweep.dir=sweep"]
    command = [sys.executable, "-m", "teddy", *tiny, *words]
    environment = {**os.environ, "TEDDY_STORE": str(workspace.store), "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=workspace.folder, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert workspace.kinds() == {"images": 4, "labels": 4, "students": 4, "trajectory": 1}
    assert {row["run"] for row in students(workspace.folder / "sweep")} == {"0", "1"}


SBATCH = """#!/bin/sh
for word in "$@"; do test -f "$word" && cp "$word" script.sh; done
echo "no SLURM here" >&2
exit 1
"""


def test_what_slurm_is_asked_for(workspace, tiny):
    """The script that ``sbatch`` would get, by a program of that name which keeps it."""
    if importlib.util.find_spec("submitit") is None:
        pytest.skip("submitit is an optional extra and is not installed")
    tools = workspace.folder / "bin"
    tools.mkdir()
    for name in ("sbatch", "srun"):
        (tools / name).write_text(SBATCH)
        (tools / name).chmod(0o755)
    words = ("+launch=slurm", "-m", "synthesis.ipc=1,2", "hydra.launcher.partition=gpu")
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "WANDB_API_KEY": "5ecre7" * 7}
    done = workspace.run(*words, base=tiny, environment=environment, code=1)
    assert "no SLURM here" in done.err.splitlines()[-1]
    script = (workspace.folder / "script.sh").read_text()
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH --")]
    asked = dict(line.split("=", 1) for line in lines if "=" in line)
    wanted = {"partition": "gpu", "job-name": "teddy", "cpus-per-task": "8", "gpus-per-node": "1", "mem": "64GB"}
    assert wanted.items() <= asked.items()
    assert (asked["time"], asked["array"].split("%")[0], asked["nodes"]) == ("1440", "0-1", "1")
    assert asked["output"].startswith(str(done.folder / ".submitit"))
    assert "submitit.core._submit" in script.splitlines()[-1]
    assert "5ecre7" not in script
