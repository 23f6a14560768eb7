"""ZCA whitening against its definition: uncorrelated pixels of one variance, as near to the images as possible."""

from __future__ import annotations

import pytest
import torch

from teddy.config.errors import UserError
from teddy.data.dataset import RealDataset
from teddy.data.whitening import check_whitening, zca
from tests.synthesis.conftest import ToySource


def correlated(count: int = 500) -> torch.Tensor:
    draws = torch.Generator().manual_seed(0)
    return (torch.randn(count, 12, generator=draws) @ torch.randn(12, 12, generator=draws) + 2).view(count, 3, 2, 2)


def test_whitened_pixels_are_uncorrelated_and_come_back():
    images = correlated()
    whitening = zca(images, 1e-9)
    assert torch.allclose(torch.cov(whitening(images).flatten(1).T, correction=0), torch.eye(12), atol=1e-3)
    assert torch.allclose(whitening.undo(whitening(images)), images, atol=1e-3)
    assert torch.allclose(whitening.matrix, whitening.matrix.T, atol=1e-6)


def test_eps_is_added_to_the_variances():
    images, eps = correlated(), 0.1
    covariance = torch.cov(images.flatten(1).double().T, correction=0)
    expected = covariance @ torch.linalg.inv(covariance + eps * torch.eye(12, dtype=torch.float64))
    found = torch.cov(zca(images, eps)(images).flatten(1).double().T, correction=0)
    assert torch.allclose(found, expected, atol=1e-3)


def test_a_whitened_dataset_is_another_one_whose_pictures_come_back():
    plain, white = (RealDataset("toy", ToySource(), mean=[0.4], std=[0.3], zca=eps) for eps in (None, 0.1))
    assert plain.fingerprint != white.fingerprint
    images = plain.train.take(range(60))
    seen = white.spec.normalise(images)
    assert not torch.allclose(seen, plain.spec.normalise(images), atol=0.1)
    assert (white.spec.denormalise(seen).int() - images.int()).abs().max() <= 1
    low, high = white.spec.pixel_bounds()
    assert low.max() == -torch.inf
    assert high.min() == torch.inf


def test_large_images_are_refused():
    check_whitening(3, 64)
    with pytest.raises(UserError, match=r"dataset\.zca needs a matrix of 150,528 x 150,528 numbers .* of 224 pixels"):
        check_whitening(3, 224)
