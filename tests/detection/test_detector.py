"""Detectors: live BatchNorm, their losses, and the gradient that reaches the pixels."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from teddy.detection import detector
from teddy.detection.detector import Detector
from teddy.detection.synthesis import detector_terms
from teddy.methods.batchnorm import MeasuredTeacher
from teddy.models.networks import build_network

SIZE = 64
TARGETS = [
    {"boxes": torch.tensor([[4.0, 6, 30, 28], [30, 30, 60, 62]]), "labels": torch.tensor([1, 2])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
]


@pytest.fixture(scope="module")
def frozen() -> nn.Module:
    """A small detector whose statistics belong to some images."""
    network = build_network("fasterrcnn_resnet18_w16", 2, 3, SIZE)
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)), TARGETS * 2)
    return network.eval().requires_grad_(False)


def images(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0), dtype=dtype)


def test_it_is_torchvisions_detector_without_its_scaling(frozen):
    from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    transform = GeneralizedRCNNTransform(SIZE, SIZE, [0.0] * 3, [1.0] * 3)
    theirs = GeneralizedRCNN(frozen.backbone, frozen.rpn, frozen.roi_heads, transform).eval()
    mine = frozen(images())
    for own, other in zip(mine, theirs(list(images())), strict=True):
        assert torch.allclose(own["boxes"], other["boxes"], atol=1e-3)
        assert torch.allclose(own["scores"], other["scores"], atol=1e-5)


def test_hooks_see_every_live_batchnorm_of_the_backbone(frozen):
    count = sum(isinstance(layer, nn.BatchNorm2d) for layer in frozen.modules())
    assert count == 20  # of a ResNet-18
    means = []
    first = frozen.backbone.body.bn1
    handle = first.register_forward_hook(lambda layer, inputs, _: means.append(inputs[0].mean((0, 2, 3))))
    frozen(images())
    handle.remove()
    teacher = MeasuredTeacher(copy.deepcopy(frozen))
    losses, layers = teacher(images(), 1, TARGETS)
    assert len(layers) == count
    assert torch.allclose(layers[0].mean[0], means[0], atol=1e-5)
    assert set(losses) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    assert not teacher.network.training


def test_all_batchnorm_layers_learn():
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    network = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in Detector(network).modules()) == 53


def test_the_large_detector_starts_from_an_imagenet_backbone(monkeypatch):
    from torchvision.models import resnet50

    known = resnet50(weights=None).state_dict()
    monkeypatch.setattr(detector, "torchvision_weights", lambda name: known)
    network = build_network("fasterrcnn_resnet50_fpn_imagenet", 20, 3, 64)
    assert torch.equal(network.backbone.body.layer4[2].conv3.weight, known["layer4.2.conv3.weight"])
    assert network.roi_heads.box_predictor.cls_score.out_features == 21
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_the_pixel_gradient_agrees_with_finite_differences(frozen):
    network = copy.deepcopy(frozen).double()
    # Faster R-CNN takes proposals as given, though they move with the pixels: here only true boxes are proposed.
    network.rpn._post_nms_top_n = {"training": 0, "testing": 0}
    # Its labels of anchors are float32, and so would be that loss.
    assign = network.rpn.assign_targets_to_anchors

    def in_double(*given):
        labels, boxes = assign(*given)
        return [one.double() for one in labels], boxes

    network.rpn.assign_targets_to_anchors = in_double
    targets = [{"boxes": one["boxes"].double(), "labels": one["labels"]} for one in TARGETS]
    teacher = MeasuredTeacher(network)

    def loss(pixels):
        torch.manual_seed(3)  # the same sampled anchors
        detection, bn = detector_terms(teacher, targets, 2.0, pixels, torch.zeros(2), blocks=1)
        return detection + 0.1 * bn

    pixels = images(torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(pixels).sum(), pixels)
    draws = torch.Generator().manual_seed(4)
    for _ in range(3):
        direction = torch.randn(pixels.shape, generator=draws, dtype=torch.float64)
        step = 1e-6 * direction
        slope = (loss(pixels.detach() + step) - loss(pixels.detach() - step)).item() / 2e-6
        assert (gradient * direction).sum().item() == pytest.approx(slope, rel=1e-4)
