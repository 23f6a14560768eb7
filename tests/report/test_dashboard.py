"""The dashboard is printed without an account, and draws whatever methods and terms were logged."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import wandb

from teddy.report.dashboard import CURVES, KEYS, main
from teddy.runtime import metrics

SOURCE = Path(__file__).resolve().parents[2] / "src"
STUDENTS = ("ours/paper/stored/convnet3", "real/paper/stored/convnet3")
SECTIONS = ["Synthesis", "Pool", "Students", "Cost", "Accuracy", "Ablations"]


@pytest.fixture
def no_key(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    wandb.teardown()  # it reads its settings once
    yield
    wandb.teardown()


@pytest.fixture(scope="module")
def sections():
    """The panels by section, as a person without an account and network prints them."""
    pytest.importorskip("wandb_workspaces")
    command = [sys.executable, "-m", "teddy.report.dashboard", "--dry-run", "--entity", "me"]
    command += ["--students", *STUDENTS]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    view = json.loads(done.stdout)
    assert (view["entity"], view["project"]) == ("me", "teddy")
    return {one["name"]: one["panels"] for one in view["spec"]["section"]["panelBankConfig"]["sections"]}


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


def test_the_sections_are_there_and_open(sections):
    assert list(sections) == SECTIONS
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


def test_curves_are_drawn_by_pattern_and_costs_by_name(sections):
    shown, _ = drawn([panel for panels in sections.values() for panel in panels])
    fit = metrics.student_fit("any_method", "paper", "convnet3", 0)
    curves = {
        "Synthesis": ["synthesis/loss", "synthesis/any_method/any_term"],
        "Pool": [metrics.POOL_LOSS, metrics.POOL_TOP1_HOLDOUT],
        "Students": [metrics.in_fit(fit, metrics.EVALUATION_LOSS)],
    }
    for section, names in curves.items():
        assert all(re.search(CURVES[section], name) for name in names)
        assert CURVES[section] in json.dumps(sections[section]).replace("\\\\", "\\")
    for fit in ("synthesis", "synthesis/any_method"):
        assert not re.search(CURVES["Synthesis"], metrics.step_of(fit))
    named = {metrics.student(name) for name in STUDENTS}

    assert shown - set(CURVES.values()) >= named | {name for name in metrics.FIXED if name.startswith("cost/")} | {
        metrics.LABELS_STORAGE_MB,
        "synthesis/ours/images",
    }


def test_keys_of_an_ablation_are_drawn(sections):
    keys = {key for panels in sections.values() for key in drawn(panels)[1]}
    assert keys == set(KEYS)


def test_without_students_there_are_curves_and_costs(capsys):
    pytest.importorskip("wandb_workspaces")
    assert main(["--dry-run"]) == 0
    view = json.loads(capsys.readouterr().out)
    names = [one["name"] for one in view["spec"]["section"]["panelBankConfig"]["sections"]]
    assert names == ["Synthesis", "Pool", "Students", "Cost"]


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


def test_a_setting_of_the_wrong_form_is_refused(capsys):
    assert main(["--dry-run", "--students", "ours/paper/resnet18"]) == 2
    assert "METHOD/PROTOCOL/LABELS/STUDENT" in capsys.readouterr().err
