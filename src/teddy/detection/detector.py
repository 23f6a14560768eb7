"""Faster R-CNN (Ren et al., NeurIPS 2015) with BatchNorm layers that learn, so that there are statistics to match."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from teddy.detection.objects import Target
from teddy.models.networks import register_network
from teddy.models.resnet import build_resnet
from teddy.models.weights import torchvision_weights


class Detector(nn.Module):
    """A detector of torchvision for batches of normalised images (N, C, H, W) of one size, which it does not scale again.

    Built around pretrained weights it would have frozen BatchNorm layers, whose statistics never were its training data's.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.backbone, self.rpn, self.roi_heads = network.backbone, network.rpn, network.roi_heads

    def forward(self, images: torch.Tensor, targets: Sequence[Target] | None = None) -> Any:
        """The four losses by name, given targets; else the detections of each image.

        The heads' mode follows the targets: they have neither BatchNorm nor dropout, so a frozen detector has losses too. They
        run in the precision of the images, since boxes in half precision are a pixel off.
        """
        from torchvision.models.detection.image_list import ImageList

        features = self.backbone(images)
        sizes = [tuple(images.shape[-2:])] * len(images)
        self.rpn.train(targets is not None)
        self.roi_heads.train(targets is not None)
        with torch.autocast(images.device.type, enabled=False):
            features = OrderedDict((name, values.to(images.dtype)) for name, values in features.items())
            proposals, losses = self.rpn(ImageList(images, sizes), features, targets)
            detections, more = self.roi_heads(features, proposals, sizes, targets)
        return detections if targets is None else losses | more


def fasterrcnn_resnet50_fpn(num_classes: int, channels: int, size: int) -> Detector:
    """Build the detector of Table 4 with a backbone that was trained on ImageNet-1K, and nothing else that was."""
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    network = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=num_classes + 1)
    weights = torchvision_weights("resnet50")
    network.backbone.body.load_state_dict({k: v for k, v in weights.items() if not k.startswith("fc.")})
    return Detector(network)


def fasterrcnn_resnet18_w16(num_classes: int, channels: int, size: int) -> Detector:
    """Build a small, untrained detector for images of about 160 pixels."""
    from torchvision.models.detection import faster_rcnn
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.ops import MultiScaleRoIAlign

    stages = {"layer2": "0", "layer3": "1", "layer4": "2"}
    backbone = BackboneWithFPN(build_resnet("resnet18", 1, cifar=False, width=16), stages, [32, 64, 128], 32)
    network = faster_rcnn.FasterRCNN(
        backbone,
        rpn_anchor_generator=AnchorGenerator(((16,), (32,), (64,), (96,)), ((0.5, 1.0, 2.0),) * 4),
        **{f"rpn_{when}_nms_top_n_{mode}": 200 for when in ("pre", "post") for mode in ("train", "test")},
        rpn_batch_size_per_image=64,
        box_roi_pool=MultiScaleRoIAlign(list(stages.values()), output_size=5, sampling_ratio=2),
        box_head=faster_rcnn.TwoMLPHead(32 * 5**2, 128),
        box_predictor=faster_rcnn.FastRCNNPredictor(128, num_classes + 1),
        box_batch_size_per_image=32,
        box_detections_per_img=20,
    )
    return Detector(network)


register_network("fasterrcnn_resnet50_fpn_imagenet", fasterrcnn_resnet50_fpn, classifier=False)
register_network("fasterrcnn_resnet18_w16", fasterrcnn_resnet18_w16, classifier=False)
