"""Statistics in which all classes count the same, against those of a batch that holds as many images of each class."""

import torch

from teddy.methods.balanced import balanced_statistics
from teddy.runtime import seeding
from tests.methods.test_run import DEVICE, inputs  # noqa: F401 - a fixture


def test_they_are_the_statistics_of_a_balanced_batch(inputs):  # noqa: F811
    train = inputs.train
    chosen = []
    for label in range(3):
        members = torch.nonzero(train.labels == label).flatten()
        chosen += members[torch.from_numpy(seeding.permutation(20, 0, "bank", label)[:7])].tolist()
    images = inputs.spec.normalise(train.take(chosen)).double()
    for index, targets in enumerate(balanced_statistics(inputs, DEVICE, count=7)):
        x, expected = images, []
        for layer in inputs.pool.load(index).double().features:
            if isinstance(layer, torch.nn.BatchNorm2d):
                expected.append((x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)))
            x = layer(x)
        assert len(targets) == len(expected) == 2
        for found, (mean, var) in zip(targets, expected, strict=True):
            assert torch.allclose(found[0].double(), mean, atol=1e-5)
            assert torch.allclose(found[1].double(), var, atol=1e-5)
