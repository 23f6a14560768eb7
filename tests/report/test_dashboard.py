"""The dashboard is printed without an account, and draws whatever methods and terms were logged."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import wandb
import yaml

from teddy.report.dashboard import CURVES, main
from teddy.runtime import metrics

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
STUDENTS = ("ours/paper/stored/convnet3", "real/paper/stored/convnet3")
CURVES_AND_COSTS = ["Synthesis", "Pool", "Students", "Learning rates", "Cost"]


@pytest.fixture
def no_key(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    wandb.teardown()  # it reads its settings once
    yield
    wandb.teardown()


def sections_of(text):
    view = json.loads(text)
    return {one["name"]: one["panels"] for one in view["spec"]["section"]["panelBankConfig"]["sections"]}


@pytest.fixture
def sections(teachers_sweep, make_snapshots):
    """The panels of a sweep by section, as a person without an account and network prints them."""
    pytest.importorskip("wandb_workspaces")
    make_snapshots(teachers_sweep / "0" / "snapshots")
    methods = {"ours": {"title": "Ours", "snapshots": "snapshots"}, "real": {"title": "real", "snapshots": None}}
    record = json.loads((teachers_sweep / "0" / "run.json").read_text())
    (teachers_sweep / "0" / "run.json").write_text(json.dumps({**record, "methods": methods}))
    command = [sys.executable, "-m", "teddy.report.dashboard", "--dry-run", "--entity", "me", str(teachers_sweep)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    view = json.loads(done.stdout)
    assert (view["entity"], view["project"]) == ("me", "teddy")
    return sections_of(done.stdout)


def strings(node):
    """Every string in a JSON value that is no key and no title."""
    if isinstance(node, dict):
        return {text for key, value in node.items() if "itle" not in key for text in strings(value)}
    if isinstance(node, list):
        return {text for value in node for text in strings(value)}
    return {node} if isinstance(node, str) else set()


def drawn(panels):
    """The metrics and the configuration keys that panels draw."""
    found = set().union(*(strings(panel["config"]) for panel in panels))
    keys = {word.removeprefix("config:").replace(".value", "") for word in found if ".value" in word}
    return {word.removeprefix("summary:") for word in found if "/" in word}, keys


def test_students_settings_and_curves_come_from_the_runs(sections):
    assert list(sections) == [*CURVES_AND_COSTS, "Accuracy", "Ablations"]
    kinds = {panel["viewType"] for panels in sections.values() for panel in panels}
    assert kinds == {
        "Bar Chart",
        "Media Browser",
        "Parallel Coordinates Plot",
        "Parameter Importance",
        "Run Comparer",
        "Run History Line Plot",
        "Scatter Plot",
    }
    shown, _ = drawn([panel for panels in sections.values() for panel in panels])
    named = {metrics.student(name) for name in STUDENTS}
    costs = {name for name in metrics.FIXED if name.startswith("cost/")} | {metrics.LABELS_STORAGE_MB}
    assert shown - set(CURVES.values()) == named | costs | {"synthesis/ours/images"}
    assert drawn(sections["Ablations"])[1] == {"synthesis.teachers_per_block"}


def test_curves_are_drawn_by_pattern(sections):
    fit = metrics.student_fit("any_method", "paper", "convnet3", 0)
    synthesis = "synthesis/any_method"
    curves = {
        "Synthesis": ["synthesis/loss", f"{synthesis}/any_term"],
        "Pool": [metrics.POOL_LOSS, metrics.POOL_TOP1_HOLDOUT],
        "Students": [metrics.in_fit(fit, metrics.EVALUATION_LOSS), f"{fit}/val/top1"],
        "Learning rates": [
            metrics.POOL_LR,
            metrics.in_fit(synthesis, metrics.SYNTHESIS_LR),
            metrics.in_fit(fit, metrics.EVALUATION_LR),
        ],
    }
    every = [name for names in curves.values() for name in names] + [metrics.step_of(synthesis), metrics.step_of(fit)]
    for section, names in curves.items():
        assert [name for name in every if re.search(CURVES[section], name)] == names
        assert CURVES[section] in json.dumps(sections[section]).replace("\\\\", "\\")


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "sweep").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_sweep_has_a_dashboard_of_its_own_keys(path, tmp_path, make_run, students, capsys):
    """As its file says, each key at its first two values; groups such as pool are no single setting."""
    pytest.importorskip("wandb_workspaces")
    parameters = yaml.safe_load(path.read_text())["hydra"]["sweeper"]["params"]
    for job in range(2):
        words = {key: str(value).split(",")[min(job, str(value).count(","))] for key, value in parameters.items()}
        settings = {}
        for key, word in words.items():
            *groups, name = key.split(".")
            if groups or key == "seed":
                node = settings
                for group in groups:
                    node = node.setdefault(group, {})
                node[name] = yaml.safe_load(word)
        make_run(tmp_path / str(job), students("ours", [50.0 + job], f"{job}"), settings, words)
    assert main(["--dry-run", str(tmp_path)]) == 0
    found = sections_of(capsys.readouterr().out)
    varied = {key for key, value in parameters.items() if ("." in key or key == "seed") and "," in str(value)}
    assert drawn(found.get("Ablations", []))[1] == varied
    assert metrics.student(STUDENTS[0]) in drawn(found["Accuracy"])[0]


def test_without_runs_there_are_curves_and_costs(capsys):
    pytest.importorskip("wandb_workspaces")
    assert main(["--dry-run"]) == 0
    assert list(sections_of(capsys.readouterr().out)) == CURVES_AND_COSTS


def test_without_a_key_one_sentence_says_so(no_key, capsys):
    pytest.importorskip("wandb_workspaces")
    assert main([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("teddy: no W&B API key was found; run `wandb login`")


def test_with_a_key_the_entity_is_needed(no_key, capsys, monkeypatch):
    pytest.importorskip("wandb_workspaces")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert main([]) == 2
    assert "--entity is missing" in capsys.readouterr().err


def test_a_server_that_cannot_be_reached_is_one_sentence(tmp_path):
    pytest.importorskip("wandb_workspaces")
    command = [sys.executable, "-m", "teddy.report.dashboard", "--entity", "me"]
    environment = {
        "HOME": str(tmp_path),
        "WANDB_API_KEY": "0" * 40,
        "WANDB_BASE_URL": "http://127.0.0.1:9",
        "WANDB_HTTP_TIMEOUT": "2",
        "WANDB_INIT_TIMEOUT": "2",
        "PYTHONPATH": str(SOURCE),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "teddy: W&B did not save the dashboard" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_extra_one_sentence_says_so(capsys, monkeypatch):
    for name in ("wandb_workspaces", "wandb_workspaces.reports.v2", "wandb_workspaces.workspaces"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["--dry-run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "install 'teddy-distill[dashboard]'" in line


def test_what_is_no_run_is_refused(tmp_path, capsys):
    assert main(["--dry-run", str(tmp_path)]) == 2
    assert "holds neither a run nor a sweep" in capsys.readouterr().err
