"""Where a base model comes from: training, torchvision, a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision

from teddy.config.errors import UserError
from teddy.data.dataset import RealDataset
from teddy.data.images import TensorImages
from teddy.data.sources.base import Loaded, numbered_ids
from teddy.models.networks import build_network
from teddy.pool.base import base_model, check_base
from teddy.pool.members import ModelPool
from teddy.pool.trajectory import BaseTraining, trajectory

MakeBase = Callable[..., BaseTraining]


def test_trained_is_the_last_snapshot(tmp_path: Path, make_base: MakeBase) -> None:
    base = make_base(tmp_path)
    check_base(base, "trained")
    assert not base.store.made
    found = base_model(base, "trained")
    assert found == trajectory(base)[-1]
    assert (found.epoch, len(base.store.made)) == (3, 1)
    assert 0 < found.seconds < 60
    first, last = trajectory(base)
    assert first.seconds < last.seconds


def test_a_file_is_adopted_and_measured(tmp_path: Path, make_base: MakeBase) -> None:
    """The trained weights, given as a file, are worth what they were worth as a snapshot."""
    base = make_base(tmp_path)
    trained = base_model(base, "trained")
    weights = ModelPool((trained,), base.dataset.spec, "").load(0).state_dict()
    file = tmp_path / "mine.pth"
    torch.save({"state_dict": weights}, file)
    found = base_model(base, str(file))
    assert (found.epoch, found.seconds, found.history) == (0, 0.0, None)
    assert found.top1_holdout == trained.top1_holdout
    loaded = ModelPool((found,), base.dataset.spec, "").load(0).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())
    assert found.identity != trained.identity

    made = len(base.store.made)
    file.rename(tmp_path / "elsewhere.pth")
    assert base_model(base, str(tmp_path / "elsewhere.pth")) == found
    assert len(base.store.made) == made
    weights["features.0.weight"] += 1
    torch.save(weights, file)
    assert base_model(base, str(file)).identity != found.identity


def test_a_file_of_other_classes_is_refused_before_anything(tmp_path: Path, make_base: MakeBase) -> None:
    base = make_base(tmp_path)
    torch.save(build_network("convnet3_w16", 7, 1, 28).state_dict(), tmp_path / "seven.pth")
    for act in (check_base, base_model):
        with pytest.raises(UserError, match=r"seven\.pth do not fit .* classifier\.weight: .*\[7, 144\].*\[10, 144\]"):
            act(base, str(tmp_path / "seven.pth"))
        with pytest.raises(UserError, match=r"pool\.base=nowhere is no file"):
            act(base, "nowhere")
    assert not base.store.root.exists()


class Thousand:
    """A source of random images with ImageNet's number of classes."""

    def fingerprint(self) -> str:
        return "thousand"

    def load(self) -> Loaded:
        images = torch.randint(0, 256, (2000, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
        names = tuple(map(str, range(1000)))
        train = TensorImages(images, torch.arange(2000) % 1000)
        return Loaded(
            train, TensorImages(images[:10], torch.arange(10)), names, numbered_ids(names), channels=3, size=32
        )


@pytest.fixture(scope="module")
def thousand() -> RealDataset:
    return RealDataset("thousand", Thousand(), mean=[0.5] * 3, std=[0.25] * 3)


def test_pretrained_is_torchvisions(
    tmp_path: Path, make_base: MakeBase, thousand: RealDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = torchvision.models.resnet18().state_dict()
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(weights, folder / torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url.split("/")[-1])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    base = make_base(tmp_path, dataset=thousand, network="resnet18")
    found = base_model(base, "pretrained")
    loaded = ModelPool((found,), thousand.spec, "").load(0).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())
    assert found.epoch == 0
    assert 0 <= found.top1_holdout <= 100
    assert base_model(base, "pretrained") == found
    assert len(base.store.made) == 1


def test_pretrained_is_for_imagenet_only(tmp_path: Path, make_base: MakeBase, thousand: RealDataset) -> None:
    with pytest.raises(
        UserError, match=r"ResNet18_Weights.*for 1000 classes and 3 channels, but fashion_mini has 10 and 1"
    ):
        base_model(make_base(tmp_path, network="resnet18"), "pretrained")
    for name in ("resnet18_cifar", "convnet3"):
        with pytest.raises(UserError, match=f"needs a network of torchvision .* not {name}"):
            base_model(make_base(tmp_path, dataset=thousand, network=name), "pretrained")
    assert not (tmp_path / "store").exists()
