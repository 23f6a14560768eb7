"""The score of detectors against a value that was computed by hand, and what they are trained on."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from torch import nn

from teddy.data.augment import Augmentation
from teddy.data.spec import DatasetSpec
from teddy.detection.objects import Objects
from teddy.detection.shapes import Shapes
from teddy.detection.training import DetectorStudent, SceneData
from teddy.evaluation.protocol import Protocol

PROTOCOL = Protocol("hard", "views", "sgd", 0.1, 0.9, 0.0, 2, 1, "cosine", 1.0)


class Given(nn.Module):
    """A detector that has its answers already."""

    def __init__(self, answers):
        super().__init__()
        self.answers = answers

    def forward(self, images):
        return [self.answers[int(index)] for index in images[:, 0, 0, 0]]


def answer(*found: tuple[list[float], float, int]) -> dict[str, torch.Tensor]:
    boxes, scores, labels = zip(*found, strict=True)
    return {"boxes": torch.tensor(boxes), "scores": torch.tensor(scores), "labels": torch.tensor(labels)}


def test_map_agrees_with_a_hand_computed_value():
    pytest.importorskip("pycocotools")
    square, far, hard = [0.0, 0, 100, 100], [300.0, 300, 400, 400], [200.0, 0, 260, 60]
    easy = torch.tensor([False, True])
    truth = [
        Objects(torch.tensor([square, hard]), torch.tensor([0, 0]), easy),
        Objects(torch.tensor([square]), torch.tensor([0])),
    ]
    # Best first: a hit; a find of the difficult object, which does not count; a miss; a hit with an IoU of 0.62.
    answers = [
        answer((square, 0.9, 1), (hard, 0.85, 1), (far, 0.8, 1)),
        answer(([0.0, 0, 100, 62], 0.7, 1)),
    ]
    module = DetectorStudent(Given(answers), PROTOCOL, None, 1, 0)
    module.trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    for index in (0, 1):
        module.validation_step((torch.full((1, 1, 1, 1), float(index)), truth[index : index + 1]), index)
    at_50, coco = module._measured()
    # Recall goes to 1/2 at precision 1, then to 1 at 2/3; COCO reads 101 recalls from 0 to 1.
    both, one = (51 * 1 + 50 * 2 / 3) / 101, 51 / 101
    assert at_50.item() == pytest.approx(100 * both, abs=1e-3)
    assert coco.item() == pytest.approx(100 * (3 * both + 7 * one) / 10, abs=1e-3)  # IoUs .5, .55, .6 and seven more


class Epoch:
    """As much of a Trainer as the data look at."""

    training, testing, current_epoch, global_rank, world_size = True, False, 0, 0, 1


def test_about_half_of_the_images_are_mirrored_with_their_objects():
    spec = DatasetSpec("shapes", 3, 3, 48, (0.5,) * 3, (0.25,) * 3, ("a", "b", "c"), ("a", "b", "c"))
    train = Shapes(48, 40, 1, 0).load().train
    data = SceneData(spec, train, augment=Augmentation(flip=True), holdout=0.0, batch_size=40, seed=0)
    data.trainer = Epoch()
    indices = torch.arange(40)
    batch = (train.take(indices), train.labels, indices)
    views, targets = data.on_after_batch_transfer(batch, 0)
    same = [torch.equal(view, image) for view, image in zip(views, spec.normalise(train.images), strict=True)]
    assert 10 < sum(same) < 30
    for index, target in enumerate(targets):
        whole = train.objects[index].boxes
        expected = (
            whole if same[index] else torch.stack([48 - whole[:, 2], whole[:, 1], 48 - whole[:, 0], whole[:, 3]], 1)
        )
        assert torch.equal(target["boxes"], expected)
    again, _ = data.on_after_batch_transfer((train.take(indices), train.labels, indices), 0)
    assert torch.equal(views, again)
