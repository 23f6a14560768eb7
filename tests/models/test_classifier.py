"""Top-1 by Lightning's loops against counting by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassF1Score

from teddy.models.classifier import Classifier, MacroF1
from teddy.runtime.device import DeviceConfig
from teddy.runtime.trainer import make_trainer

IMAGES = torch.randn(23, 1, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(23) % 3


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("loop", ["validate", "test"])
def test_top1_is_the_share_of_right_answers_in_percent(tmp_path: Path, loop: str, training: bool) -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.9), nn.Flatten(), nn.Linear(16, 3))
    network.train(training)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    trainer = make_trainer(DeviceConfig("cpu", "32-true"), max_epochs=0, folder=tmp_path, validate=True)
    batches = DataLoader(TensorDataset(IMAGES, LABELS, LABELS), batch_size=10)
    module = Classifier(network, 3)
    for _ in range(2):  # nothing is left of the first count
        (found,) = getattr(trainer, loop)(module, batches, verbose=False)
    assert all(layer.training == training for layer in network.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    network.eval()
    right = sum(
        int(int(network(image[None]).argmax()) == int(label)) for image, label in zip(IMAGES, LABELS, strict=True)
    )
    assert 0 < right < 23
    assert float(found[{"validate": "val/top1", "test": "test/top1"}[loop]]) == pytest.approx(
        100 * right / 23, abs=1e-4
    )
    if loop == "test":  # batches of 10, 10 and 3 count by their images
        with torch.no_grad():
            assert found["test/loss"] == pytest.approx(float(nn.functional.cross_entropy(network(IMAGES), LABELS)))


def test_macro_f1_is_the_mean_over_classes_of_precision_and_recalls_harmonic_mean(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    labels = torch.tensor([0] * 15 + [1] * 6 + [2] * 2)
    trainer = make_trainer(DeviceConfig("cpu", "32-true"), max_epochs=0, folder=tmp_path, validate=True)
    batches = DataLoader(TensorDataset(IMAGES, labels), batch_size=10)
    (found,) = trainer.test(Classifier(network, 3), batches, verbose=False)
    predicted, scores = network(IMAGES).argmax(1), []
    for label in range(3):
        hits = int(((predicted == label) & (labels == label)).sum())
        scores.append(2 * hits / int((predicted == label).sum() + (labels == label).sum()))
    assert len(set(scores)) == 3
    assert float(found["test/macro_f1"]) == pytest.approx(100 * sum(scores) / 3, abs=1e-4)


def test_the_macro_f1_is_torchmetrics_own():
    """Also of classes that are nowhere, or that are predicted only."""
    generator = torch.Generator().manual_seed(0)
    ours, theirs = MacroF1(40), MulticlassF1Score(40, average="macro")
    for _ in range(3):
        logits, labels = torch.randn(50, 40, generator=generator), torch.randint(0, 30, (50,), generator=generator)
        logits[:, 35:] -= 9
        logits[torch.arange(25), labels[:25]] += 3
        ours.update(logits, labels)
        theirs.update(logits, labels)
    assert float(ours.compute()) == pytest.approx(100 * float(theirs.compute()), rel=1e-6)
