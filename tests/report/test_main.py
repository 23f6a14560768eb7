import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from teddy.report.__main__ import main
from teddy.report.callback import SweepReport

SOURCE = Path(__file__).resolve().parents[2] / "src"


def run(*arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "COLUMNS": "100"}
    command = [sys.executable, "-m", "teddy.report", *map(str, arguments)]
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


def test_the_end_of_a_sweep_names_its_page_whatever_its_folder_is_called(teachers_sweep, capsys):
    folder = teachers_sweep.rename(teachers_sweep.with_name("method=[teddy,dm]"))  # as rich writes a style
    sweep = SimpleNamespace(dir=str(folder))
    SweepReport().on_multirun_end(SimpleNamespace(hydra=SimpleNamespace(sweep=sweep)))
    assert f"Sweep:  {folder / 'index.html'}\n" in capsys.readouterr().out


def test_bad_input_ends_with_2_and_one_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["nowhere"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("teddy.report: nowhere is no folder; give the folder of a run")
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["x", "--no-such"]])
def test_a_wrong_command_ends_with_2(arguments):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)


def test_help_tells_how(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "usage: python -m teddy.report" in capsys.readouterr().out
