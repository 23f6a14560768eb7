"""The dashboard is printed without an account, and draws only names that exist (tests/pipeline/test_wandb.py: are logged)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from teddy.config.command import check_command, read_command
from teddy.config.schema import register_schemas
from teddy.report.dashboard import DEFAULT_STUDENTS, main
from teddy.runtime import metrics

register_schemas()

SWEEP = Path(__file__).resolve().parents[2] / "experiments" / "wandb_sweep.yaml"
SECTIONS = ["Accuracy", "Ablations", "Synthesis", "Pool", "Students", "Cost"]


@pytest.fixture
def no_key(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)


@pytest.fixture(scope="module")
def sections():
    """The panels by section, as a person without an account and network prints them."""
    pytest.importorskip("wandb_workspaces")
    command = [sys.executable, "-m", "teddy.report.dashboard", "--dry-run", "--entity", "me"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    view = json.loads(done.stdout)
    assert (view["entity"], view["project"]) == ("me", "teddy")
    return {one["name"]: one["panels"] for one in view["spec"]["section"]["panelBankConfig"]["sections"]}


def words(node):
    """Every string in a JSON value that is no key and no title."""
    if isinstance(node, dict):
        return {word for key, value in node.items() if "itle" not in key for word in words(value)}
    if isinstance(node, list):
        return {word for value in node for word in words(value)}
    return {node} if isinstance(node, str) else set()


def drawn(panels):
    """The metrics and the configuration keys that panels draw."""
    found = set().union(*(words(panel["config"]) for panel in panels))
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


def test_every_metric_that_is_drawn_has_its_name_from_the_one_list(sections):
    fits = [
        metrics.student_fit(method, protocol, student, 0)
        for method, protocol, _, student in (name.split("/") for name in DEFAULT_STUDENTS)
    ]
    names = {
        *metrics.FIXED,
        *(metrics.step_of(stage) for stage in (*metrics.STAGES, *fits)),
        *(metrics.in_fit(fit, metrics.EVALUATION_LOSS) for fit in fits),
        *(metrics.student(name, quantity) for name in DEFAULT_STUDENTS for quantity in ("top1", "top1_std")),
    }
    shown, _ = drawn([panel for panels in sections.values() for panel in panels])
    assert shown <= names
    places = {metrics.SYNTHESIS_BLOCK, metrics.SYNTHESIS_ITERATION, metrics.EVALUATION_LOSS}  # shown by step and by fit
    assert set(metrics.FIXED) - shown == places, "what is logged is shown"


def test_every_key_that_is_drawn_exists(sections):
    keys = {key for panels in sections.values() for key in drawn(panels)[1]}
    assert keys == {"pool.label", "pool.size", "synthesis.ipc", "synthesis.teachers_per_block", "labels.members"}
    (config,) = check_command(read_command(["+experiment=quickstart"])[0])
    for key in keys:
        group, name = key.split(".")
        assert hasattr(getattr(config, group), name), key


def test_the_defaults_are_what_the_quick_start_logs():
    (config,) = check_command(read_command(["+experiment=quickstart"])[0])
    for name in DEFAULT_STUDENTS:
        method, protocol, labels, student = name.split("/")
        assert method == "teddy" or method in config.baselines
        assert protocol in config.evaluation.protocol
        assert labels == config.labels.kind
        assert student in (config.evaluation.students or [config.model.name])


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
        "PYTHONPATH": str(SWEEP.parents[1] / "src"),
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
    assert "pip install 'teddy-distill[dashboard]'" in line


def test_a_setting_of_the_wrong_form_is_refused(capsys):
    assert main(["--dry-run", "--students", "teddy/paper/resnet18"]) == 2
    assert "METHOD/PROTOCOL/LABELS/STUDENT" in capsys.readouterr().err


def test_the_wandb_sweep_is_a_command_that_works():
    """The agent replaces the last word by ``key=value`` for every parameter."""
    sweep = yaml.safe_load(SWEEP.read_text())
    start, given = sweep["command"].index("teddy") + 1, sweep["command"][-1]
    assert given == "${args_no_hyphens}"
    assert sweep["command"][:start] == ["${env}", "${interpreter}", "-m", "teddy"]
    fixed = sweep["command"][start:-1]
    for key, parameter in sweep["parameters"].items():
        group, name = key.split(".")
        for value in parameter["values"]:
            (config,) = check_command(read_command([*fixed, f"{key}={value}"])[0])
            assert getattr(getattr(config, group), name) == value
    assert sweep["metric"]["name"] == metrics.student(DEFAULT_STUDENTS[0])
