import os
import subprocess
import sys
from pathlib import Path

import pytest

from teddy.report.__main__ import main

SOURCE = Path(__file__).resolve().parents[2] / "src"


def run(*words, cwd):
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "COLUMNS": "100"}
    command = [sys.executable, "-m", "teddy.report", *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=100)


def test_the_command_reports_on_a_sweep_in_its_folder(teachers_sweep, tmp_path):
    (teachers_sweep / "7").mkdir()
    (teachers_sweep / "7" / "config.yaml").write_text("name: toy\n")
    done = run(teachers_sweep, "--name", "Teachers [3]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "54.0 ± 1.0" in done.stdout
    assert "Teachers [3]" in done.stdout
    assert "teddy.report: " in done.stderr
    assert done.stderr.count("7 has no results and is left out") == 1
    for name in ("results.md", "results.tex", "results.csv", "index.html"):
        assert (teachers_sweep / name).is_file()
    assert list(teachers_sweep.glob("figures/*.png"))
    assert not (tmp_path / "report").exists()
    assert main([str(teachers_sweep)]) == 0  # with its report in it, it is still a sweep


def test_several_runs_are_reported_on_in_the_current_folder(teachers_sweep, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([str(teachers_sweep / "0"), str(teachers_sweep / "2")]) == 0
    assert "51.0 ± 1.0" in capsys.readouterr().out
    assert (tmp_path / "report" / "index.html").is_file()
    assert main([str(teachers_sweep), "--out", str(tmp_path / "there")]) == 0
    assert (tmp_path / "there" / "index.html").is_file()
    assert not (teachers_sweep / "index.html").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere is no folder; give the folder of a run"),
        ([], "required: RUN; 'python -m teddy.report --help' shows the usage"),
        (["x", "--no-such"], "unrecognized arguments: --no-such"),
    ],
)
def test_bad_input_ends_with_2_and_one_sentence(tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("teddy.report: ")
    assert said in error
    assert error.count("\n") == 1


def test_torch_is_never_needed(teachers_sweep, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('torch was asked for')")
    words = f"sys.path.insert(0, {str(SOURCE)!r}); from teddy.report.__main__ import main"
    code = f"import sys; {words}; sys.exit(main([{str(teachers_sweep)!r}]) or 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_help_is_quick_and_says_how(tmp_path):
    done = run("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "usage: python -m teddy.report" in done.stdout
