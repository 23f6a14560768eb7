"""The help that is read from the files, against the one that Hydra composes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from teddy import cli
from teddy.config.help import help_text


@pytest.fixture
def hydras_help(monkeypatch, capsys):
    """What ``--help`` prints where Hydra has to answer, as for a command with overrides."""

    def ask(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["teddy", "--help", "+experiment=quickstart", *words])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        assert cli.main() == 0
        return capsys.readouterr().out

    return ask


def folder_with(root: Path, *files: str) -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("seed: 1\n")
    return root


def test_help_is_hydras_word_for_word(hydras_help):
    assert help_text() == hydras_help()


def test_groups_of_another_folder_stand_among_ours(hydras_help, tmp_path):
    files = "experiment/mine.yaml", "experiment/_part.yaml", "experiment/sub/deep.yaml", "mine/a.yaml", "hydra/x/y.yaml"
    folder = folder_with(tmp_path, *files, "experiment/note.txt")
    text = help_text([folder])
    assert text == hydras_help("--config-dir", str(folder))
    assert "experiment/sub: deep\n" in text
    assert "mine: a\n" in text
    assert ", mine, mini," in text
    assert not {"_part", "note", "hydra/x: y"} & {word for line in text.splitlines() for word in line.split(", ")}


def test_the_command_prints_it_without_hydra(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["teddy", "--help"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(cli, "_hydra_main", lambda typed: pytest.fail("Hydra was asked"))
    assert cli.main() == 0
    assert capsys.readouterr().out == help_text()
