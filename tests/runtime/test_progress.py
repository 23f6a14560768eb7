import io
import re
import sys

import lightning as L
import pytest
import torch

from teddy.runtime import progress
from teddy.runtime.progress import ProgressCallback, StageProgress, duration


def test_durations_are_readable():
    assert [duration(s) for s in (0, 8.4, 59.4, 185, 7385, 93785)] == [
        *("0 s", "8 s", "59 s", "3:05", "2:03:05", "1 d 2:03:05")
    ]


def test_without_a_terminal_a_line_at_both_ends_and_at_most_one_in_ten_seconds(clock, capsys):
    with StageProgress("synthesis", 100, "blocks") as bar:
        for _ in range(100):
            clock.now += 0.5
            bar.advance(loss=2.0)
    out, lines = capsys.readouterr()
    lines = lines.splitlines()
    assert out == ""
    assert lines[0] == "synthesis: 0/100 blocks (0 %)"
    assert lines[1] == "synthesis: 20/100 blocks (20 %), ETA 40 s, 2 blocks/s, loss 2"
    assert lines[-1] == "synthesis: 100/100 blocks (100 %), done in 50 s, loss 2"
    assert len(lines) == 7
    assert "\x1b" not in "".join(lines)


def test_work_of_an_earlier_run_counts_as_done_but_not_as_speed(clock, capsys):
    with StageProgress("pool", 100, "epochs", done=90) as bar:
        clock.now += 30
        bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "pool: 90/100 epochs (90 %)"
    assert lines[1] == "pool: 91/100 epochs (91 %), ETA 4:30, 30 s each"


def test_notes_are_read_only_when_shown(clock, capsys):
    reads = []
    with StageProgress("x", 1000, "steps") as bar:
        for step in range(1000):
            clock.now += 1 / 32
            bar.advance(loss=lambda step=step: reads.append(step) or 0.5)
    assert reads == [319, 639, 959, 999]  # every ten seconds, and at the end


def interrupted_after_one_step():
    with StageProgress("x", 4, "steps") as bar:
        bar.advance()
        raise KeyboardInterrupt


def test_an_interrupted_stage_says_so(capsys):
    with pytest.raises(KeyboardInterrupt):
        interrupted_after_one_step()
    assert "x: 1/4 steps (25 %), stopped in" in capsys.readouterr().err


def test_nothing_to_do_is_all_done(capsys):
    with StageProgress("x", 0, "blocks"):
        pass
    assert "0/0 blocks (100 %)" in capsys.readouterr().err


def test_only_the_first_process_shows_progress(monkeypatch, capsys):
    monkeypatch.setattr(progress, "is_leader", lambda: False)
    with StageProgress("x", 2, "steps") as bar:
        bar.advance()
    assert capsys.readouterr().err == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_has_one_live_display_with_a_row_for_each_stage(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with StageProgress("outer", 2, "students") as outer:
        display = StageProgress._live
        assert display is not None
        with StageProgress("inner", 3, "epochs") as inner:
            assert StageProgress._live is display
            assert [task.description for task in display.tasks] == ["outer", "inner"]
            inner.advance(3)
        assert [task.description for task in display.tasks] == ["outer"]
        outer.advance(2)
    assert StageProgress._live is None
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "2/2 students (100 %), done in" in text


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "dumb")
    with StageProgress("x", 1, "steps") as bar:
        bar.advance()
    assert screen.getvalue().splitlines()[0] == "x: 0/1 steps (0 %)"


class Line(L.LightningModule):
    def __init__(self, fail_at=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.fail_at = fail_at

    def training_step(self, batch, index):
        if index == self.fail_at:
            raise ValueError("broken")
        return (self.weight**2).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.25)  # halves the weight at each step


def fit(model, callback, folder, epochs=2):
    trainer = L.Trainer(
        default_root_dir=folder,
        logger=False,
        callbacks=[callback],
        accelerator="cpu",
        max_epochs=epochs,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(model, range(3))


def progress_lines(text):
    return [line for line in text.splitlines() if line.startswith("teacher")]


def test_a_fit_shows_its_batches_and_its_last_loss(tmp_path, capsys):
    fit(Line(), ProgressCallback("teacher", 8, done=2), tmp_path)
    lines = progress_lines(capsys.readouterr().err)
    assert lines[0] == "teacher: 2/8 steps (25 %)"
    assert re.fullmatch(r"teacher: 8/8 steps \(100 %\), done in \d s, loss 0.0009766", lines[-1])  # 2^-10


def test_a_fit_that_fails_closes_its_progress(tmp_path, capsys):
    with pytest.raises(ValueError, match="broken"):
        fit(Line(fail_at=1), ProgressCallback("teacher", 6), tmp_path)
    lines = progress_lines(capsys.readouterr().err)
    assert "1/6 steps (16 %), stopped" in lines[-1]
    assert len(lines) == 2
