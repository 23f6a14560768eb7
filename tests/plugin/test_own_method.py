"""The example of docs/own_method.md, installed as a package and run from the command line through all stages."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from tests.conftest import SHORT

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "own_method.md").read_text()
TINY = (*SHORT, "synthesis.ipc=2")
FEW = ("iterations=6", "real_images=4")
OWN = tuple(f"methods.feature_matching.{word}" for word in FEW)
TRAINED = tuple(f"methods.trained_features.{word}" for word in FEW)


def example(folder: Path) -> Path:
    """Write the page's files, which stand in blocks below their names, to a folder."""
    blocks = re.findall(r"^\*\*`([^`]+)`\*\*(?: \(continued\))?\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    files: dict[str, list[str]] = {}
    for name, text in blocks:
        files.setdefault(name, []).append(text)
    for name, parts in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n\n".join(parts))
    return folder


def command(start: str) -> list[str]:
    """The page's command that begins so, as a list of arguments."""
    (line,) = (line for line in PAGE.splitlines() if line.startswith(start))
    return shlex.split(line)


def pip_install(*arguments: str | Path) -> None:
    """Install without a network."""
    pip = [sys.executable, "-m", "pip", *map(str, arguments)]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr


@dataclass
class Workspace:
    """A working directory in which commands of the page are typed.

    Attributes:
        teddy: what stands for ``teddy``.
        path: of Python, for what is not installed.
        folder: holds the example's files.
    """

    folder: Path
    teddy: Sequence[str] = (sys.executable, "-m", "teddy")
    path: Sequence[Path] = (ROOT / "src",)

    def start(self, arguments: Sequence[str], run: str) -> subprocess.Popen[str]:
        """Start a command whose records go to the folder ``run``; ``PYTHONPATH=.`` before it adds the example's folder."""
        arguments, path = list(arguments), [*self.path]
        if arguments[0] == "PYTHONPATH=.":
            path.append(self.folder)
            del arguments[0]
        assert arguments.pop(0) == "teddy"
        environment = {**os.environ, "TEDDY_STORE": str(self.folder / "store")}
        environment["PYTHONPATH"] = os.pathsep.join(map(str, path))
        arguments = [*self.teddy, *arguments, f"hydra.run.dir={run}", f"hydra.sweep.dir={run}"]
        return subprocess.Popen(
            arguments, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, arguments: Sequence[str], run: str, code: int = 0) -> str:
        """Run a command, which must end with this exit code; returns what it wrote to stderr."""
        process = self.start(arguments, run)
        out, err = process.communicate(timeout=280)
        assert process.returncode == code, out + err
        return err


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace whose Python finds the example as an installed package."""
    folder = example(tmp_path_factory.mktemp("installed") / "my_distillation")
    site = folder.parent / "site"
    pip_install("install", "--no-index", "--no-deps", "--no-build-isolation", "--target", site, folder)
    work = Workspace(folder, path=(ROOT / "src", site))
    # The installed copy is used, not the file that lies in the working directory.
    (folder / "my_distillation.py").rename(folder / "my_distillation.txt")
    return work


def check_run(folder: Path, store: Path, methods: Mapping[str, list[str]]) -> None:
    """A run that is whole: rows, table, curves and figures of each method's terms, images that another tool reads."""
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert [row["method"] for row in rows] == [*methods, "random"]
    table = (folder / "results.md").read_text()
    page = (folder / "index.html").read_text()
    figures = {path.name for path in (folder / "figures").iterdir()}
    for row in rows:
        name = row["method"]
        assert 0 <= row["top1"] <= 100
        assert f"| {name} " in table
        assert f"Synthesis: {row['title']}" in page or row["baseline"]
        assert f"images_{name}.png" in figures
        images = ImageFolder(str(store / "images" / row["fingerprints"]["images"] / "images"))
        assert [label for _, label in images.samples] == [label for label in range(10) for _ in range(2)]
    for name, terms in methods.items():
        assert next(csv.reader((folder / f"terms_{name}.csv").open())) == ["block", "iteration", *terms]
        assert {f"terms_{name}.png", f"iterations_{name}.png"} <= figures
        columns = next(csv.reader((folder / "curves" / "metrics.csv").open()))
        assert {f"synthesis/{name}/{term}" for term in terms} <= set(columns)


@pytest.mark.timeout(600)
def test_all_stages_and_a_sweep(installed: Workspace) -> None:
    first = [*command("teddy --config-dir conf +experiment"), *TINY, *OWN]
    installed.run(first, "run")
    check_run(installed.folder / "run", installed.folder / "store", {"feature_matching": ["feature_distance"]})

    installed.run([*command("teddy --config-dir conf -m"), *TINY, *OWN], "sweep")
    sweep = installed.folder / "sweep"
    table = (sweep / "results.md").read_text()
    assert "methods.feature_matching.lr" in table
    assert all(re.search(rf"^\| feature_matching \| {lr} \|", table, re.MULTILINE) for lr in ("0.3", "3"))
    assert "ablation_methods_feature_matching_lr.png" in {path.name for path in (sweep / "figures").iterdir()}
    assert len([path for path in (installed.folder / "store" / "trajectory").iterdir() if path.is_dir()]) == 1


@pytest.mark.timeout(600)
def test_inner_state_survives_a_kill(installed: Workspace) -> None:
    method = ("method=[trained_features,random]", "methods.trained_features.iterations=40", TRAINED[1])
    arguments = [
        "teddy",
        "--config-dir",
        "conf",
        "+experiment=quickstart",
        *TINY,
        *method,
        "synthesis.checkpoint_every=1",
    ]
    whole, killed = installed.folder / "whole", installed.folder / "killed"
    installed.run([*arguments, f"store={whole}"], "run_whole")
    terms = {"trained_features": ["feature_distance", "network_loss"]}
    check_run(installed.folder / "run_whole", whole, terms)

    arguments = [*arguments, f"store={killed}", "stages=[pool,synthesis]"]
    process = installed.start(arguments, "run_killed")
    limit = time.monotonic() + 200
    while not list(killed.glob("images/*/.resume-*")):
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    installed.run(arguments, "run_resumed")
    for name in ("images/*/terms.csv", "images/*/images/*/*.png"):
        wanted = {path.relative_to(whole): path.read_bytes() for path in whole.glob(name)}
        assert wanted
        assert {path.relative_to(killed): path.read_bytes() for path in killed.glob(name)} == wanted


def test_what_is_not_installed_is_allowed_by_name(tmp_path: Path) -> None:
    work = Workspace(example(tmp_path))
    images_only = ("evaluation.protocol=dm", "stages=[synthesis]")  # which needs no teachers
    arguments = [*command("PYTHONPATH=. teddy"), *TINY, *OWN, *images_only]
    refused = [one for one in arguments if one not in ("--allow", "my_distillation")]
    sentence = work.run(refused, "refused", code=2)
    assert sentence.count("\n") == 1
    assert "methods.feature_matching._target_" in sentence
    assert "--allow PACKAGE" in sentence
    assert not (tmp_path / "refused").exists()
    assert not (tmp_path / "store").exists()

    work.run(arguments, "allowed")
    assert len(list((tmp_path / "store").glob("images/*/images/*/*.png"))) == 2 * 10 * 2


@pytest.mark.parametrize(
    "text",
    [
        "_target_: os.system\ncommand: touch called\n",
        "_target_: teddy.methods.random.Random\nipc: 1\npool: {_target_: os.system, command: touch called}\n",
    ],
)
def test_a_yaml_file_calls_no_function(tmp_path: Path, text: str) -> None:
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "other.yaml").write_text(f"# @package methods.other\n{text}")
    arguments = ["teddy", "--config-dir", "conf", "+experiment=quickstart", "method=[other]", *TINY]
    sentence = Workspace(tmp_path).run(arguments, "run", code=2)
    assert "'os.system'" in sentence
    assert not (tmp_path / "called").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_the_wheel_in_an_empty_environment(tmp_path: Path) -> None:
    """The libraries are this environment's, through a path file, so that nothing is downloaded; Teddy is the wheel's."""
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")

    venv.create(tmp_path / "venv", with_pip=False)
    bin_ = tmp_path / "venv" / "bin"
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    # A plain path: the path files that lie there, such as that of an editable Teddy, are not read.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    folder = example(tmp_path / "my_distillation")
    options = ("--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed")
    pip_install("--python", bin_ / "python", "install", *options, wheel, folder)

    work = Workspace(folder, teddy=[str(bin_ / "teddy")], path=())
    (folder / "my_distillation.py").unlink()
    where = [
        str(bin_ / "python"),
        "-c",
        "import teddy, my_distillation; print(teddy.__file__, my_distillation.__file__)",
    ]
    found = subprocess.run(where, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    assert [Path(name).is_relative_to(site) for name in found.stdout.split()] == [True, True], found.stderr

    work.run([*command("teddy --config-dir conf +experiment"), *TINY, *OWN], "run")
    check_run(folder / "run", folder / "store", {"feature_matching": ["feature_distance"]})
    work.run([*command("teddy --config-dir conf -m"), *TINY, *OWN], "sweep")
    assert "methods.feature_matching.lr" in (folder / "sweep" / "results.md").read_text()
