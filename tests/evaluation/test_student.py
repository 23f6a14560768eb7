"""A student's training under the Trainer against a plain loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers.logger import DummyLogger
from torch import nn

from teddy.data.dsa import dsa
from teddy.data.images import TensorImages
from teddy.data.spec import DatasetSpec
from teddy.evaluation.datamodule import DistilledViews
from teddy.evaluation.dsa_views import DsaViews
from teddy.evaluation.protocol import Protocol
from teddy.evaluation.student import StudentTraining
from teddy.labels.sources import HardLabels, OnlineLabels
from teddy.labels.views import ViewMaker, ViewRecipe
from teddy.models.networks import build_network
from teddy.runtime.device import DeviceConfig
from teddy.runtime.metrics import EVALUATION_LOSS
from teddy.runtime.seeding import permutation, seed_torch
from teddy.runtime.trainer import make_trainer

SPEC = DatasetSpec("blobs", 3, 1, 8, (0.5,), (0.25,), ("a", "b", "c"), ("0", "1", "2"))
HARD = Protocol("hard", "views", "sgd", 0.05, 0.9, 1e-3, batch_size=8, epochs=3, schedule="cosine", eta=1.0)
SOFT = replace(HARD, labels="soft", optimizer="adamw", lr=0.01, weight_decay=0.1, eta=2.0)
RECIPE = ViewRecipe(min_scale=0.5, flip=0.0, mix="cutmix")
N = 21
FLOAT32 = DeviceConfig("cpu", "32-true")


@pytest.fixture
def images(blobs: Callable[..., TensorImages]) -> TensorImages:
    return blobs(N, seed=1)


def teacher() -> nn.Module:
    """Knows the classes: compares the brightness of the three columns."""
    layer = nn.Linear(64, 3)
    columns = torch.full((3, 8, 8), -0.1)
    for label in range(3):
        columns[label, 2:6, 2 * label : 2 * label + 3] = 1.0
    layer.load_state_dict({"weight": columns.flatten(1) / 2, "bias": torch.zeros(3)})
    return nn.Sequential(nn.Flatten(), layer)


class Noisy(nn.Module):
    """A network that draws random numbers itself."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.dropout, self.body = nn.Dropout(0.3), build_network(name, 3, 1, 8, seed=7)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.body(self.dropout(inputs))


def student(
    protocol: Protocol, network: nn.Module, images: TensorImages, first_epoch: int = 0
) -> tuple[StudentTraining, DistilledViews]:
    model = teacher()
    hard = protocol.labels == "hard"
    source = HardLabels(images.labels, 3) if hard else OnlineLabels(lambda x: model(x).detach(), 4.0, batch_size=5)
    dsa_views = protocol.augment == "dsa"
    views = DsaViews(images.images, SPEC, 4, "dsa") if dsa_views else ViewMaker(images.images, SPEC, RECIPE, 9)
    data = DistilledViews(views, source, protocol.batch_size, 4, SPEC, lambda: images, first_epoch)
    return StudentTraining(network, protocol, source.loss, 3, seed=4, first_epoch=first_epoch), data


def fit(
    folder: Path, module: StudentTraining, data: DistilledViews, config: DeviceConfig = FLOAT32, **options: Any
) -> L.Trainer:
    epochs = module.protocol.epochs - module.first_epoch
    trainer = make_trainer(config, max_epochs=epochs, folder=folder, **options)
    trainer.fit(module, datamodule=data)
    return trainer


def slow_train(protocol: Protocol, network: nn.Module, images: TensorImages, autocast: bool = False) -> nn.Module:
    """The same training written out: no Lightning, no label source, no protocol's optimizer or schedule."""
    maker, model = ViewMaker(images.images, SPEC, RECIPE, 9), teacher()
    if protocol.optimizer == "sgd":
        optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9, weight_decay=1e-3)
    else:
        kernels = [parameter for name, parameter in network.named_parameters() if name.endswith("weight")]
        biases = [parameter for name, parameter in network.named_parameters() if name.endswith("bias")]
        groups = [{"params": kernels, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=1.0)
    for epoch in range(protocol.epochs):
        rate = protocol.lr * (1 + math.cos(math.pi * epoch / (protocol.epochs * protocol.eta))) / 2
        order = permutation(N, 4, "student order", epoch)
        for batch, start in enumerate((0, 8, 16)):
            indices = torch.from_numpy(order[start : start + 8])
            if protocol.augment == "dsa":
                inputs = dsa((images.images[indices].float() / 255 - 0.5) / 0.25, 4, "dsa", epoch, int(indices[0]))
                partner, keep = indices, torch.ones(len(indices))
            else:
                views = maker(epoch, indices)
                inputs, partner, keep = views.images, views.partner, views.keep
            seed_torch(4, "student", epoch, batch)
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                logits = network(inputs.contiguous(memory_format=torch.channels_last))
            logits = logits.float()
            if protocol.labels == "hard":
                wanted = torch.zeros(len(indices), 3)
                for row, (own, other) in enumerate(zip(images.labels[indices], images.labels[partner], strict=True)):
                    wanted[row, own] += keep[row]
                    wanted[row, other] += 1 - keep[row]
                loss = -(wanted * logits.log_softmax(1)).sum(1).mean()
            else:
                wanted = (model(inputs).detach() / 4).softmax(1)
                loss = (wanted * (wanted.log() - F.log_softmax(logits / 4, 1))).sum(1).mean()
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network


# Without a norm for AdamW: a bias before BatchNorm has a gradient of rounding errors, which Adam would amplify.
LOOPS = {
    "hard": (HARD, "convnet2_w4"),
    "soft": (SOFT, "convnet2_w4_none"),
    "dsa": (replace(HARD, augment="dsa"), "convnet2_w4"),
}


@pytest.mark.parametrize(("protocol", "name"), LOOPS.values(), ids=LOOPS)
def test_training_is_the_slow_loop(tmp_path: Path, images: TensorImages, protocol: Protocol, name: str) -> None:
    found, expected, start = Noisy(name), Noisy(name), Noisy(name).state_dict()
    fit(tmp_path, *student(protocol, found, images))
    for key, value in slow_train(protocol, expected, images).state_dict().items():
        torch.testing.assert_close(found.state_dict()[key], value, atol=1e-5, rtol=1e-4)
        assert not torch.equal(start[key], value)


def test_in_bfloat16_the_forward_pass_is_autocast_and_the_loss_is_not(tmp_path: Path, images: TensorImages) -> None:
    found, expected = Noisy("convnet2_w4"), Noisy("convnet2_w4")
    module, data = student(HARD, found, images)
    fit(tmp_path, module, data, replace(FLOAT32, precision="bf16-mixed"))
    assert module.last_loss.dtype == torch.float32
    for key, value in slow_train(HARD, expected, images, autocast=True).state_dict().items():
        torch.testing.assert_close(found.state_dict()[key], value, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("protocol", [HARD, SOFT], ids=["hard", "soft"])
def test_a_student_learns(
    tmp_path: Path, images: TensorImages, blobs: Callable[..., TensorImages], protocol: Protocol
) -> None:
    network = build_network("convnet2_w8", 3, 1, 8, seed=0)
    module, data = student(replace(protocol, epochs=30), network, images)
    trainer = fit(tmp_path, module, data)
    test = data.test = lambda: blobs(60, seed=2)
    (result,) = trainer.test(module, datamodule=data, verbose=False)
    guesses = network.eval()(SPEC.normalise(test().images)).argmax(1)
    assert result["test/top1"] == pytest.approx(100 * (guesses == test().labels).float().mean().item())
    assert result["test/top1"] > 90


class Curve(DummyLogger):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, float]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, metrics[EVALUATION_LOSS]))


def test_every_nth_loss_is_logged(tmp_path: Path, images: TensorImages) -> None:
    curve, losses = Curve(), []
    module, data = student(HARD, build_network("convnet2_w4", 3, 1, 8), images)
    loss = module.loss

    def spy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        losses.append(loss(logits, targets))
        return losses[-1]

    module.loss = spy
    fit(tmp_path, module, data, logger=curve, log_every=4)
    assert len(losses) == 9
    assert curve.rows == [(step, pytest.approx(losses[step].item())) for step in (3, 7)]


@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_a_resumed_fit_continues_the_schedule(tmp_path: Path, images: TensorImages, schedule: str) -> None:
    protocol, rates = replace(HARD, epochs=5, schedule=schedule), []

    class Rates(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    for first_epoch in (0, 2):
        rates.clear()
        network = build_network("convnet1_w2", 3, 1, 8)
        fit(tmp_path, *student(protocol, network, images, first_epoch), callbacks=[Rates()])
        expected = [protocol.lr * protocol.lr_factor(epoch) for epoch in range(first_epoch, 5)]
        assert rates == [rate for rate in expected for _ in range(3)]
