"""The Trainer leaves nothing behind and says nothing."""

from __future__ import annotations

import warnings
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Checkpoint, ProgressBar

from teddy.runtime.precision import Compute
from teddy.runtime.trainer import make_trainer


class Line(L.LightningModule):
    """Fits y = 2 x."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.types: set[torch.dtype] = set()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(torch.linspace(-1, 1, 20).view(-1, 1), batch_size=5)

    def val_dataloader(self) -> torch.utils.data.DataLoader:
        return self.train_dataloader()

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        guess = self.layer(batch)
        self.types.add(guess.dtype)
        loss = (guess.float() - 2 * batch).square().mean()
        self.log("pool/loss", loss)
        return loss


@pytest.mark.parametrize(("precision", "kind"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_a_fit_leaves_no_file_and_no_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, precision: str, kind: torch.dtype
) -> None:
    here, folder = tmp_path / "here", tmp_path / "folder"
    for place in (here, folder):
        place.mkdir()
    monkeypatch.chdir(here)
    module = Line()
    with warnings.catch_warnings():
        warnings.simplefilter("error", category=UserWarning)
        trainer = make_trainer(Compute("cpu", precision), max_epochs=10, folder=folder)
        trainer.fit(module)
    assert float(trainer.callback_metrics["pool/loss"]) < 0.1
    assert trainer.global_step == 40
    assert module.types == {kind}
    assert next(module.parameters()).dtype == torch.float32
    assert list(here.iterdir()) == list(folder.iterdir()) == []
    out, err = capfd.readouterr()
    assert out == ""
    assert err == ""
    assert not any(isinstance(callback, Checkpoint | ProgressBar) for callback in trainer.callbacks)


def test_callbacks_and_logger_are_the_ones_given(tmp_path: Path) -> None:
    seen: list[int] = []

    class Count(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            seen.append(trainer.current_epoch)

    make_trainer(Compute("cpu", "float32"), max_epochs=3, folder=tmp_path, callbacks=[Count()]).fit(Line())
    assert seen == [0, 1, 2]
    assert make_trainer(Compute("cpu", "float32"), max_epochs=3, folder=tmp_path).logger is None
