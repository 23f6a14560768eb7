"""Weights from outside: what fits is loaded whole, what does not ends in one sentence, and nothing is ever run."""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from teddy.config.errors import UserError
from teddy.models.networks import build_network
from teddy.models.weights import fit_weights, read_weights, torchvision_title, torchvision_weights

NAME = "convnet2_w4"


def state(seed: int = 1, classes: int = 3) -> dict[str, torch.Tensor]:
    return build_network(NAME, classes, 1, 8, seed=seed).state_dict()


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    return list(found) == list(wanted) and all(torch.equal(found[key], wanted[key]) for key in wanted)


WRAPPINGS: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "bare": lambda tensors: tensors,
    "model": lambda tensors: {"model": tensors, "epoch": 89, "optimizer": {"state": {}}},
    "state_dict": lambda tensors: {"state_dict": tensors, "best_acc1": 69.76},
    "parallel": lambda tensors: {"state_dict": {f"module.{key}": tensor for key, tensor in tensors.items()}},
    "torchvision's script": lambda tensors: {"model": tensors, "args": argparse.Namespace(lr=0.1, data="/data")},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_file_is_unwrapped(tmp_path: Path, wrapping: str, zipped: bool) -> None:
    path = tmp_path / "weights.pth"
    torch.save(WRAPPINGS[wrapping](state()), path, _use_new_zipfile_serialization=zipped)
    assert same(read_weights(path), state())


def test_a_safetensors_file_of_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({f"module.{key}": tensor.contiguous() for key, tensor in state().items()}, path)
    found = read_weights(path)
    assert same({key: found[key] for key in state()}, state())


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_code_in_a_file_is_refused_and_never_run(tmp_path: Path, name: str) -> None:
    marker, path = tmp_path / "executed", tmp_path / name
    pickle.loads(pickle.dumps(Malicious(marker)))
    assert marker.exists()  # so it would have been
    marker.unlink()
    for write in (
        lambda: torch.save({**state(), "extra": Malicious(marker)}, path),
        lambda: torch.save({"model": state(), "args": Malicious(marker)}, path, _use_new_zipfile_serialization=False),
        lambda: path.write_bytes(pickle.dumps(Malicious(marker))),
    ):
        write()
        with pytest.raises(UserError, match=name) as caught:
            read_weights(path)
        assert "\n" not in str(caught.value)
        assert not marker.exists()


def test_a_whole_module_and_a_script_are_refused(tmp_path: Path) -> None:
    network = build_network(NAME, 3, 1, 8)
    torch.save(network, tmp_path / "module.pth")
    torch.jit.save(torch.jit.trace(network.eval(), torch.zeros(1, 1, 8, 8)), tmp_path / "script.pt")
    for name in ("module.pth", "script.pt"):
        with pytest.raises(UserError, match=name):
            read_weights(tmp_path / name)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("cut", [0, 10, 1000, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, cut: int) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state(), path)
    else:
        save_file({key: tensor.contiguous() for key, tensor in state().items()}, path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=f"weights{suffix}.*give") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_unpacks_to_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1_000_000)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(tmp_path / "bomb.pth", "w") as bomb:
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name), zipfile.ZIP_DEFLATED)
    assert (tmp_path / "bomb.pth").stat().st_size < 10_000
    with pytest.raises(UserError, match="it announces more than it holds"):
        read_weights(tmp_path / "bomb.pth")
    assert read_weights(tmp_path / "plain.pth")["weight"].shape == (1_000_000,)


def test_no_file_and_no_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pool\.base=.*nowhere\.pth is no file; give trained, pretrained, or a file"):
        read_weights(tmp_path / "nowhere.pth")
    for content in ([1, 2], {"epoch": 3}, {}, torch.zeros(3)):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(UserError, match="holds no state dict"):
            read_weights(tmp_path / "other.pth")


def test_weights_that_fit_are_loaded_whole() -> None:
    network = build_network(NAME, 3, 1, 8, seed=2)
    fit_weights(network, state(seed=1), "file")
    assert same(network.state_dict(), state(seed=1))
    old = {key: tensor for key, tensor in state(seed=3).items() if "num_batches" not in key}
    fit_weights(network, old, "file")
    assert all(torch.equal(network.state_dict()[key], tensor) for key, tensor in old.items())


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (lambda: state(classes=10), r"size mismatch for classifier\.weight: .*\[10, 16\].*\[3, 16\]"),
        (lambda: build_network("convnet2_w5", 3, 1, 8).state_dict(), r"size mismatch for features\.0\.weight"),
        (lambda: build_network("convnet1_w4", 3, 1, 8).state_dict(), r'Missing key.*"features\.4\.weight"'),
        (lambda: {**state(), "extra.weight": torch.zeros(1)}, r'Unexpected key.*"extra\.weight"'),
    ],
)
def test_the_first_misfit_is_named(other: Callable[[], dict[str, torch.Tensor]], why: str) -> None:
    network = build_network(NAME, 3, 1, 8, seed=2)
    with pytest.raises(UserError, match=f"the weights of file.pth do not fit model.name: {why}.*; choose") as caught:
        fit_weights(network, other(), "file.pth")
    assert "\n" not in str(caught.value)


def stored(monkeypatch: pytest.MonkeyPatch, hub: Path, name: str, tensors: dict[str, torch.Tensor] | None) -> Path:
    """Puts a file where a download of torchvision's would lie, or makes the download fail."""
    monkeypatch.setenv("TORCH_HOME", str(hub))
    (hub / "hub" / "checkpoints").mkdir(parents=True)
    path = hub / "hub" / "checkpoints" / torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].url.split("/")[-1]
    if tensors is not None:
        torch.save(tensors, path)
    return path


def test_torchvisions_weights_are_its_own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old names of DenseNet's checkpoint included, as torchvision itself renames them."""
    wanted = torchvision.models.densenet121().state_dict()
    aged = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): value
        for key, value in wanted.items()
        if "num_batches" not in key
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in aged
    stored(monkeypatch, tmp_path, "densenet121", aged)
    network = build_network("densenet121", 1000, 3, 224, seed=3)
    fit_weights(network, torchvision_weights("densenet121"), torchvision_title("densenet121"))
    assert all(torch.equal(network.state_dict()[key], value) for key, value in wanted.items())


def test_a_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored(monkeypatch, tmp_path, "resnet18", None)

    def offline(*args: object, **kwargs: object) -> None:
        raise URLError("no network here")

    monkeypatch.setattr("torch.hub.urlopen", offline)
    with pytest.raises(UserError, match=r"resnet18-f37072fd\.pth .*no network here.*pool\.base=FILE") as caught:
        torchvision_weights("resnet18")
    assert "\n" not in str(caught.value)
    path.write_bytes(b"half of a download")
    with pytest.raises(UserError, match=r"cannot load torchvision's weights .*pool\.base=FILE"):
        torchvision_weights("resnet18")


@pytest.mark.parametrize("name", ["convnet3", "resnet18_cifar", "nonsense"])
def test_a_network_that_nobody_trained(name: str) -> None:
    with pytest.raises(UserError, match=f"pool.base=pretrained needs a network of torchvision .* not {name}"):
        torchvision_title(name)
    assert torchvision_title("resnet18") == "ResNet18_Weights.IMAGENET1K_V1"
