"""The Trainer leaves no files and prints nothing."""

from __future__ import annotations

import warnings
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Checkpoint, LearningRateMonitor, ModelCheckpoint, ProgressBar
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from teddy.runtime.device import DeviceConfig
from teddy.runtime.loggers import RunLog
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

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("pool/top1_holdout", batch.square().mean())

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        guess = self.layer(batch)
        self.types.add(guess.dtype)
        loss = (guess.float() - 2 * batch).square().mean()
        self.log("pool/loss", loss)
        return loss


@pytest.mark.parametrize(("precision", "kind"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_a_fit_leaves_no_file_and_prints_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, precision: str, kind: torch.dtype
) -> None:
    here, folder = tmp_path / "here", tmp_path / "folder"
    for path in (here, folder):
        path.mkdir()
    monkeypatch.chdir(here)
    module = Line()
    with warnings.catch_warnings():
        warnings.simplefilter("error", category=UserWarning)
        trainer = make_trainer(DeviceConfig("cpu", precision), max_epochs=10, folder=folder)
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


class Count(L.Callback):
    """Counts epochs over all instances."""

    epochs = 0

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        Count.epochs += 1


def test_callbacks_are_the_ones_given_and_the_user_s_where_networks_train(tmp_path: Path) -> None:
    config = DeviceConfig("cpu", "32-true", callbacks=lambda: [Count()])
    for single, epochs in ((False, 6), (True, 3)):
        Count.epochs = 0
        make_trainer(config, max_epochs=3, folder=tmp_path, callbacks=[Count()], single=single).fit(Line())
        assert Count.epochs == epochs
    assert make_trainer(config, max_epochs=3, folder=tmp_path).logger is None


def test_a_user_s_checkpoints_lie_in_the_run_folder(tmp_path: Path) -> None:
    config = DeviceConfig("cpu", "32-true", callbacks=lambda: [ModelCheckpoint(), LearningRateMonitor()])
    log = RunLog(tmp_path / "run")
    make_trainer(config, max_epochs=2, folder=tmp_path, logger=log.stage("pool")).fit(Line())
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    assert checkpoint.is_relative_to(tmp_path / "run" / "pool")


@pytest.mark.parametrize("validate", [False, True])
def test_the_validation_loop_runs_if_asked_for(tmp_path: Path, validate: bool) -> None:
    trainer = make_trainer(DeviceConfig("cpu", "32-true"), max_epochs=1, folder=tmp_path, validate=validate)
    trainer.fit(Line())
    assert ("pool/top1_holdout" in trainer.callback_metrics) == validate


def test_lightning_is_given_its_own_settings(tmp_path: Path) -> None:
    config = DeviceConfig("cpu", "bf16-mixed", devices=2, strategy="ddp")
    trainer = make_trainer(config, max_epochs=1, folder=tmp_path)
    assert (type(trainer.strategy), trainer.num_devices, trainer.precision) == (DDPStrategy, 2, "bf16-mixed")
    alone = make_trainer(config, max_epochs=1, folder=tmp_path, single=True)
    assert (type(alone.strategy), alone.num_devices, alone.precision) == (SingleDeviceStrategy, 1, "bf16-mixed")


def test_a_deterministic_run_trains_in_one_process(tmp_path: Path) -> None:
    config = DeviceConfig("cpu", "bf16-mixed", devices=2, strategy="ddp", deterministic=True)
    try:
        trainer = make_trainer(config, max_epochs=1, folder=tmp_path)
        assert (type(trainer.strategy), trainer.num_devices) == (SingleDeviceStrategy, 1)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
