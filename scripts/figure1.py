"""Time and memory of an update of each method, as in Fig. 1: `python scripts/figure1.py`, with `--threads N`.

Every method has the numbers of its experiment `cifar10_ipc10_<method>`. Images, teachers and trajectories are made up, of the
size of CIFAR-10. Each measurement is a process of its own. Writes results.csv, figure and table of experiments/figure1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from benchmarks.setting import made_up_images, made_up_pool, made_up_spec  # noqa: E402
from benchmarks.startup import environment  # noqa: E402
from teddy.artifacts.store import ArtifactStore  # noqa: E402
from teddy.config.build import build  # noqa: E402
from teddy.config.command import check_jobs, read_command  # noqa: E402
from teddy.config.errors import UserError  # noqa: E402
from teddy.config.schema import register_schemas  # noqa: E402
from teddy.factory import device_config_of  # noqa: E402
from teddy.pool.members import ModelPool, Trajectory  # noqa: E402
from teddy.report.charts import COLOURS, chart  # noqa: E402
from teddy.runtime.memory import PeakMemory  # noqa: E402
from teddy.synthesis.engine import start_state  # noqa: E402
from teddy.synthesis.method import Inputs, Method  # noqa: E402

RECORD = ROOT / "experiments" / "figure1"
METHODS = ("bptt", "mtt", "tesla", "dc", "dsa", "dm", "idm", "sre2l", "teddy", "classwise")
IPCS = (1, 10, 50)
REAL_IMAGES = 5000
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=3.0, help="give a measurement up after so long")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measured(*json.loads(args.child))))
        return
    rows = []
    with tempfile.TemporaryDirectory(prefix="teddy-figure1-") as folder:
        for name in METHODS:
            for ipc in IPCS:
                task = json.dumps([name, ipc, args.threads, folder])
                command = [sys.executable, __file__, "--child", task]
                try:
                    done = subprocess.run(
                        command, env=environment(), stdout=subprocess.PIPE, text=True, timeout=60 * args.minutes
                    )
                    found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"note": "failed"}
                except subprocess.TimeoutExpired:
                    found = {"note": f"over {args.minutes:g} minutes"}
                rows.append({"method": name, "ipc": ipc, **found})
                print(rows[-1], flush=True)
    write(pd.DataFrame(rows).reindex(columns=["method", "ipc", "iterations", "seconds", "megabytes", "note"]))


def measured(name: str, ipc: int, threads: int, folder: str) -> dict[str, Any]:
    """Seconds of an update, and the megabytes that it adds to those of the loaded method."""
    register_schemas()
    words = [f"+experiment=cifar10_ipc10_{name if name != 'teddy' else 'prior'}", f"method=[{name},random]"]
    words.append(f"trainer.threads={threads}")
    if name == "classwise":
        words.append("methods.classwise.augmentations=1")  # a small bank: it is measured before the updates
    (config,) = check_jobs(read_command([*words, f"synthesis.ipc={ipc}", "logger=csv", "trainer.precision=auto"]))
    method = cast(Any, build(f"methods.{name}", config.methods[name], Method))
    device_config = device_config_of(config)
    spec = made_up_spec(32)
    train = made_up_images(spec, REAL_IMAGES)
    dataset = SimpleNamespace(spec=spec, train=train, fingerprint="made up")
    inputs = Inputs(cast(Any, dataset), ArtifactStore(Path(folder, "store")), lambda: pool_of(config, Path(folder)))
    try:
        method.check_data(spec)
        if hasattr(method, "inner_steps"):
            method.check_memory("convnet3_in", spec, device_config, getattr(method, "real_images", 0))
        shared = method.prepare(inputs, device_config)
    except UserError as error:
        return {"note": str(error)}
    group = method.groups(spec)[0]
    state = start_state(method, inputs, 0, group, shared, device_config.device)
    optimizer, memory, seconds = method.optimizer(state), PeakMemory(device_config.accelerator), []
    before = memory.megabytes()
    whole = loops(method)
    for iteration in range(1 + max(3, whole)):
        start = time.perf_counter()
        optimizer.zero_grad()
        with device_config.autocast():
            method.step(state, iteration)
        optimizer.step()
        seconds.append(time.perf_counter() - start)
        if sum(seconds) > 40 and (iteration or seconds[0] > 120):  # a long one does not mind the warming up
            break
    return {
        "iterations": method.iterations,
        "seconds": round(median(seconds[1:] or seconds) * len(method.groups(spec)), 4),
        "megabytes": round(memory.megabytes() - before, 1),
    }


def loops(method: Any) -> int:
    """Updates after which everything that is done now and then has been done once."""
    return method.loops()[0] + 1 if hasattr(method, "loops") else 3


def pool_of(config: Any, folder: Path) -> ModelPool:
    """Teachers with random weights; for trajectory matching their files stand for the epochs of one training."""
    spec = made_up_spec(32)
    if config.model.name == "convnet3":
        return made_up_pool(folder, "convnet3", spec, 4)
    pool = made_up_pool(folder, "convnet3_in", spec, 30)
    return ModelPool(pool.members[-1:], spec, "made up", 0.0, (Trajectory(pool.members, spec, 0),))


def write(frame: pd.DataFrame) -> None:
    """The record's table, file and figures."""
    frame.to_csv(RECORD / "results.csv", index=False, lineterminator="\n")
    colours = dict(zip(METHODS, COLOURS * 2, strict=False))
    markers = dict(zip(METHODS, "osD^vP*Xhp", strict=False))
    with chart(RECORD / "figures" / "figure1.png", 5.2, 4.2, ["Time", "Memory"]) as axes:
        for axis, key in zip(axes, ("seconds", "megabytes"), strict=True):
            for name, line in frame.groupby("method", sort=False):
                known = line.dropna(subset=[key])
                axis.plot(known.ipc, known[key].clip(lower=1e-3), color=colours[name], marker=markers[name], label=name)
            axis.set(xscale="log", yscale="log", xlabel="images per class", ylabel=f"{key} of an update")
            axis.set_xticks(IPCS, IPCS)
    students = pd.read_csv(RECORD.parent / "methods" / "results.csv")
    students = students[students.student.str.endswith("_in") & ~students.baseline]
    costs = students.cost.map(json.loads)
    students["seconds"] = [sum(one.get(key, 0.0) for key in ("pool_seconds", "synthesis_seconds")) for one in costs]
    with chart(RECORD / "figures" / "accuracy_over_time.png", 6.4, 4.2, ["Small form, one image per class"]) as (axis,):
        for name, line in students.groupby("method", sort=False):
            axis.errorbar(
                line.seconds.mean(), line.top1.mean(), line.top1.std(), fmt="o", capsize=3, color=colours.get(name)
            )
            axis.annotate(name, (line.seconds.mean(), line.top1.mean()), (6, 4), textcoords="offset points")
        axis.set(xscale="log", xlabel="seconds for pool and synthesis", ylabel="top-1 (%)")
    lines = ["| method | iterations | " + " | ".join(f"IPC {ipc}" for ipc in IPCS) + " |", "|---|---:|---:|---:|---:|"]
    for name, line in frame.groupby("method", sort=False):
        cells = [
            "–" if pd.isna(row.seconds) else f"{row.seconds:.2f} s, {row.megabytes:,.0f} MB"
            for row in line.itertuples()
        ]
        known = line.iterations.dropna()
        lines.append(f"| {name} | {int(known.iloc[0]) if len(known) else 0:,} | " + " | ".join(cells) + " |")
    notes = [f"- {row.method}, IPC {row.ipc}: {row.note}" for row in frame.dropna(subset=["note"]).itertuples()]
    page = RECORD / "README.md"
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n" + "\n".join([*lines, "", *notes]) + f"\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
