"""The features that a classifier sees, of a ConvNet and of a network of torchvision."""

import pytest
import torch
from torch import nn

from teddy.config.errors import UserError
from teddy.models.features import FeatureNetwork
from teddy.models.networks import build_network


def test_a_convnets_features_are_the_flattened_output_of_its_convolutions():
    network = build_network("convnet2_w4", 3, 1, 8).eval()
    images = torch.randn(5, 1, 8, 8)
    (features,), logits = FeatureNetwork(network)(images)
    assert torch.equal(features, network.features(images.contiguous(memory_format=torch.channels_last)).flatten(1))
    assert torch.allclose(logits, network.classifier(features))


def test_deeper_features_are_the_inputs_of_the_layers_before():
    network = build_network("convnet3_w4", 3, 1, 8).eval()
    images = torch.randn(5, 1, 8, 8)
    features, _ = FeatureNetwork(network, depth=4)(images)
    expected = [images]
    for block in range(3):
        expected.append(network.features[4 * block : 4 * block + 4](expected[-1]))
    for ours, theirs in zip(features, reversed(expected), strict=True):
        assert torch.allclose(ours, theirs.flatten(1), atol=1e-6)
    with pytest.raises(UserError, match="has 4 layers with weights, not 5"):
        FeatureNetwork(network, depth=5)


def test_a_resnets_features_are_its_pooled_activations():
    network = build_network("resnet18_cifar_w16", 3, 3, 8).eval()
    (features,), logits = FeatureNetwork(network)(torch.randn(2, 3, 8, 8))
    assert features.shape == (2, 128)
    assert torch.allclose(network.fc(features), logits)


def test_a_network_without_a_linear_layer_is_refused():
    with pytest.raises(UserError, match="no linear layer"):
        FeatureNetwork(nn.Sequential(nn.Conv2d(1, 3, 1), nn.Flatten()))
