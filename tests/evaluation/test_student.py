"""A student's training against a plain loop."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers.logger import DummyLogger
from torch import nn

from teddy.config.errors import StageFailed
from teddy.data.spec import DatasetSpec
from teddy.evaluation.dsa import dsa
from teddy.evaluation.protocol import Protocol
from teddy.evaluation.student import DsaViews, StudentTraining, batches_per_epoch
from teddy.labels.sources import HardLabels, LabelSource, OnlineLabels
from teddy.labels.views import ViewMaker, ViewRecipe
from teddy.models.networks import build_network
from teddy.runtime import metrics
from teddy.runtime.seeding import permutation

SPEC = DatasetSpec("blobs", 3, 1, 8, (0.5,), (0.25,), ("a", "b", "c"), ("0", "1", "2"))
HARD = Protocol(
    labels="hard",
    augment="views",
    optimizer="sgd",
    lr=0.05,
    momentum=0.9,
    weight_decay=1e-3,
    batch_size=8,
    epochs=3,
    schedule="cosine",
    eta=1.0,
)
SOFT = replace(HARD, labels="soft", optimizer="adamw", lr=0.01, weight_decay=0.1, eta=2.0)
RECIPE = ViewRecipe(min_scale=0.5, flip=0.0, mix="cutmix")


def blobs(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes: a bright square in one of three places, under noise."""
    labels = torch.arange(n) % 3
    images = 110 + 30 * torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    for index, label in enumerate(labels.tolist()):
        images[index, 0, 2:6, 2 * label : 2 * label + 3] += 80
    return images.clamp(0, 255).byte(), labels


IMAGES, LABELS = blobs(21, seed=1)


def teacher() -> nn.Module:
    """Knows the classes: compares the brightness of the three places."""
    layer = nn.Linear(64, 3)
    places = torch.full((3, 8, 8), -0.1)
    for label in range(3):
        places[label, 2:6, 2 * label : 2 * label + 3] = 1.0
    layer.load_state_dict({"weight": places.flatten(1) / 2, "bias": torch.zeros(3)})
    return nn.Sequential(nn.Flatten(), layer)


def soft_source() -> LabelSource:
    model = teacher()
    return OnlineLabels(lambda images: model(images).detach(), temperature=4.0)


def train(protocol: Protocol, network: nn.Module, **options: Any) -> nn.Module:
    """Trains by itself, without a Trainer."""
    source = HardLabels(LABELS, 3) if protocol.labels == "hard" else soft_source()
    views = DsaViews(IMAGES, SPEC, 4) if protocol.augment == "dsa" else ViewMaker(IMAGES, SPEC, RECIPE, 9)
    training = StudentTraining(network, views, source, protocol, len(IMAGES), seed=4, **options)
    optimizer = protocol.make_optimizer(network)
    for epoch in range(protocol.epochs):
        source.begin_epoch(epoch, views, len(IMAGES))
        training.train_epoch(optimizer)
        source.end_epoch()
    return network


def slow_train(protocol: Protocol, network: nn.Module) -> nn.Module:
    """The same training written out: no Lightning, no label source, no protocol's optimizer or schedule."""
    maker, model = ViewMaker(IMAGES, SPEC, RECIPE, 9), teacher()
    if protocol.optimizer == "sgd":
        optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9, weight_decay=1e-3)
    else:
        kernels = [p for n, p in network.named_parameters() if n in ("features.0.weight", "features.4.weight")]
        kernels.append(network.classifier.weight)
        others = [p for p in network.parameters() if all(p is not kernel for kernel in kernels)]
        groups = [{"params": kernels, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=1.0)
    for epoch in range(protocol.epochs):
        rate = protocol.lr * (1 + math.cos(math.pi * epoch / (protocol.epochs * protocol.eta))) / 2
        order = permutation(21, 4, "student order", epoch)
        for batch, start in enumerate((0, 8, 16)):
            indices = torch.from_numpy(order[start : start + 8])
            if protocol.augment == "dsa":
                images = dsa((IMAGES[indices].float() / 255 - 0.5) / 0.25, 4, "dsa", epoch, int(indices[0]))
                partner, keep = indices, torch.ones(len(indices))
            else:
                views = maker(epoch, indices)
                images, partner, keep = views.images, views.partner, views.keep
            logits = network(images.contiguous(memory_format=torch.channels_last))
            if protocol.labels == "hard":
                wanted = torch.zeros(len(indices), 3)
                for row, (own, other, share) in enumerate(zip(LABELS[indices], LABELS[partner], keep, strict=True)):
                    wanted[row, own] += share
                    wanted[row, other] += 1 - share
                loss = -(wanted * logits.log_softmax(1)).sum(1).mean()
            else:
                wanted = (model(images).detach() / 4).softmax(1)
                loss = (wanted * (wanted.log() - F.log_softmax(logits / 4, 1))).sum(1).mean()
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            assert batch < 3
    return network


# Without a norm for AdamW: before a BatchNorm a bias has a gradient of rounding errors, which Adam would blow up.
LOOPS = {
    "hard": (HARD, "convnet2_w4"),
    "soft": (SOFT, "convnet2_w4_none"),
    "dsa": (replace(HARD, augment="dsa"), "convnet2_w4"),
}


@pytest.mark.parametrize(("protocol", "name"), LOOPS.values(), ids=LOOPS)
def test_training_is_the_slow_loop(protocol: Protocol, name: str) -> None:
    found, expected = (build_network(name, 3, 1, 8, seed=7) for _ in range(2))
    start = {key: value.clone() for key, value in found.state_dict().items()}
    train(protocol, found)
    for key, value in slow_train(protocol, expected).state_dict().items():
        torch.testing.assert_close(found.state_dict()[key], value, atol=1e-5, rtol=1e-4)
        assert not torch.equal(start[key], value)


@pytest.mark.parametrize("protocol", [HARD, SOFT], ids=["hard", "soft"])
def test_a_student_learns(protocol: Protocol) -> None:
    network = build_network("convnet2_w8", 3, 1, 8, seed=0)
    train(replace(protocol, epochs=30), network)
    images, truth = blobs(60, seed=2)
    guesses = network.eval()(SPEC.normalise(images)).argmax(1)
    assert (guesses == truth).float().mean() > 0.9


def test_the_seed_orders_the_images_and_another_seed_orders_them_otherwise() -> None:
    seen: dict[int, list[list[int]]] = {}

    for seed in (0, 1):

        def record(epoch: int, indices: torch.Tensor, seed: int = seed) -> object:
            seen.setdefault(seed, []).append(indices.tolist())
            return ViewMaker(IMAGES, SPEC, RECIPE, 9)(epoch, indices)

        network = build_network("convnet1_w2", 3, 1, 8)
        training = StudentTraining(network, record, HardLabels(LABELS, 3), HARD, 21, seed)
        for _ in range(2):
            training.train_epoch(HARD.make_optimizer(network))
    for batches in seen.values():
        assert [len(batch) for batch in batches] == [8, 8, 5] * 2
        epochs = [sum(batches[:3], []), sum(batches[3:], [])]  # noqa: RUF017
        assert all(sorted(epoch) == list(range(21)) for epoch in epochs)
        assert epochs[0] != epochs[1]
    assert seen[0] != seen[1]


def test_a_diverged_student_is_refused_in_the_epoch_it_happens() -> None:
    with pytest.raises(StageFailed, match=r"Ada diverged .*lower the learning rate of its protocol, 1e\+20"):
        train(replace(HARD, lr=1e20), build_network("convnet2_w4_none", 3, 1, 8), name="Ada")


class Curve(DummyLogger):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, metrics))


def test_every_so_many_steps_the_loss_is_logged_and_a_resumed_student_keeps_the_count() -> None:
    curve, again = Curve(), Curve()
    network = build_network("convnet2_w4", 3, 1, 8, seed=7)
    losses: list[float] = []

    class Spy(HardLabels):
        def loss(self, student_logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            losses.append(float(super().loss(student_logits, targets).detach()))
            return super().loss(student_logits, targets)

    views, optimizer = ViewMaker(IMAGES, SPEC, RECIPE, 9), HARD.make_optimizer(network)
    options = dict(views=views, source=Spy(LABELS, 3), protocol=HARD, num_images=21, seed=4, log_every=4)
    training = StudentTraining(network, logger=curve, **options)
    for _ in range(2):
        training.train_epoch(optimizer)
    StudentTraining(network, logger=again, done=2, **options).train_epoch(optimizer)
    assert curve.rows == [(3, {metrics.EVALUATION_LOSS: losses[3]})]  # 3 steps an epoch
    assert again.rows == [(7, {metrics.EVALUATION_LOSS: losses[7]})]


@pytest.mark.parametrize(
    ("images", "batch", "expected"), [(10, 5, 2), (10, 4, 3), (9, 4, 2), (3, 8, 1), (2, 2, 1), (1, 8, 0), (8, 8, 1)]
)
def test_batches_per_epoch_leaves_out_a_single_image(images: int, batch: int, expected: int) -> None:
    assert batches_per_epoch(images, batch) == expected
    sizes = [len(part) for part in torch.arange(images).split(batch)]
    assert expected == len([size for size in sizes if size > 1])


def test_dsa_views_keep_their_own_labels() -> None:
    views, indices = DsaViews(IMAGES, SPEC, seed=0), torch.tensor([3, 0, 20])
    batch = views(5, indices)
    assert torch.equal(batch.partner, indices)
    assert torch.equal(batch.keep, torch.ones(3))
    assert batch.images.shape == (3, 1, 8, 8)
    assert torch.equal(batch.images, views(5, indices).images)
    assert any(not torch.equal(views(epoch, indices).images, batch.images) for epoch in (6, 7))
