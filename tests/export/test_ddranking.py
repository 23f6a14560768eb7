"""Tensors for ddranking: its normalisation, and one label for each image."""

from __future__ import annotations

import torch
from torchvision.transforms import functional as F

from teddy.export.__main__ import main
from teddy.labels.views import ViewMaker

CIFAR = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]
"""What ddranking's own loader of CIFAR-10 subtracts and divides by."""


def exported(opened, folder):
    assert main([str(opened.path), "--to", "ddranking", "--out", str(folder)]) == 0
    return [torch.load(folder / f"{name}.pt", weights_only=True) for name in ("images", "labels")]


def test_images_are_normalised_as_its_test_images_and_labels_are_the_teachers_logits(make_set, logits, tmp_path):
    opened = make_set("online", learned_lr=0.02)
    images, labels = exported(opened, tmp_path / "out")
    pixels = opened.images.images
    assert torch.allclose(images, F.normalize(pixels / 255, *CIFAR), atol=1e-6)
    assert torch.allclose(labels, logits(opened, (pixels / 255 - 0.4) / 0.3), atol=1e-5)
    assert torch.load(tmp_path / "out" / "lr.pt", weights_only=True).item() == torch.tensor(0.02).item()


def test_hard_labels_are_class_indices_in_order(make_set, tmp_path):
    _, labels = exported(make_set("hard"), tmp_path / "out")
    assert labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3


def test_of_stored_labels_the_mean_is_weighted_by_the_share_of_the_image(make_set, tmp_path):
    from safetensors.torch import load_file

    opened = make_set("stored")
    _, labels = exported(opened, tmp_path / "out")
    stored = load_file(opened.path / "labels.safetensors")["logits"].double()
    recipe = opened.description.labels
    views = ViewMaker(opened.images.images, opened.spec, recipe.view, recipe.seed)
    for image in range(12):
        shares = [float(views(epoch, torch.tensor([image])).keep) for epoch in range(5)]
        wanted = sum(share * stored[epoch, image] for epoch, share in enumerate(shares)) / sum(shares)
        assert torch.allclose(labels[image].double(), wanted, atol=1e-4)


def test_a_dataset_that_it_does_not_know_is_refused(make_set, tmp_path, capsys):
    assert main([str(make_set(name="mine").path), "--to", "ddranking", "--out", str(tmp_path / "out")]) == 2
    assert "knows no dataset mine, only cifar10" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
