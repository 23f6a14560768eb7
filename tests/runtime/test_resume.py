"""Tensors on disk and optimizers that go on bit for bit."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn

from teddy.config.errors import UserError
from teddy.runtime.device import DeviceConfig
from teddy.runtime.resume import (
    ResumePoint,
    load_point,
    load_tensors,
    optimizer_tensors,
    restore_optimizer,
    save_point,
    save_tensors,
)
from teddy.runtime.trainer import make_trainer

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.01),
    "plain sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01, betas=(0.5, 0.9)),
    "amsgrad": lambda parameters: torch.optim.Adam(parameters, lr=0.01, amsgrad=True),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1),
}


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {
        "scalar": torch.tensor(3.5),
        "counter": torch.tensor(7),
        "half": torch.randn(3, 2).to(torch.bfloat16),
        "levels": torch.arange(256, dtype=torch.uint8),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "slice": torch.randn(6, 4)[::2, 1:],
        "shared": torch.randn(1, 3).expand(4, 3),
        "empty": torch.empty(0, 3),
        "double": torch.tensor([float("nan"), float("inf"), -0.0, 1e-320], dtype=torch.float64),
        "parameter": nn.Parameter(torch.randn(2)),
    }
    notes = {"epochs": 3, "extra": [{"top1": 12.5, "file": "müsli"}], "none": None}
    save_tensors(tmp_path / "x.safetensors", tensors, notes)
    found, found_notes = load_tensors(tmp_path / "x.safetensors")
    assert found_notes == notes
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert torch.equal(found[name].nan_to_num(), tensor.detach().nan_to_num())
    assert np.signbit(found["double"].numpy()).tolist() == [False, False, True, False]
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_the_format_is_the_documented_one(tmp_path: Path) -> None:
    """Eight bytes of length, a JSON header, then raw numbers: nothing that could run."""
    save_tensors(tmp_path / "x.safetensors", {"a": torch.tensor([1.0, 2.0])}, {"epoch": 4})
    raw = (tmp_path / "x.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    assert json.loads(header["__metadata__"]["notes"]) == {"epoch": 4}
    assert np.frombuffer(raw[8 + length :], np.float32).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("content", ["short", "header", "empty", "text", "pickle", "absent", "folder"])
def test_what_is_not_a_whole_file_is_refused(tmp_path: Path, content: str) -> None:
    save_tensors(tmp_path / "whole.safetensors", {"a": torch.randn(100)})
    whole = (tmp_path / "whole.safetensors").read_bytes()
    path = tmp_path / "x.safetensors"
    if content == "folder":
        path.mkdir()
    elif content != "absent":
        rest = {"empty": b"", "text": b"not tensors at all", "pickle": pickle.dumps({"a": 1})}
        path.write_bytes({"short": whole[:-1], "header": whole[:20], **rest}[content])
    with pytest.raises(UserError, match=r"x\.safetensors is not a whole safetensors file .*; delete it") as caught:
        load_tensors(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", ["[4611686018427387904]", "[1099511627776]", "[-1]"])
def test_a_header_that_announces_more_than_the_file_holds_is_refused(tmp_path: Path, shape: str) -> None:
    header = f'{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,4398046511104]}}}}'.encode()
    for length in (len(header), 2**63 - 1):
        (tmp_path / "x.safetensors").write_bytes(length.to_bytes(8, "little") + header + bytes(4))
        with pytest.raises(UserError, match="is not a whole safetensors file"):
            load_tensors(tmp_path / "x.safetensors")


def test_any_flipped_bit_of_a_point_is_noticed_and_the_point_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.safetensors"
    tensors = {"a": torch.tensor([1.0, -2.0]).to(torch.bfloat16), "b": torch.arange(3)}
    save_point(path, tensors, {"epochs": 3, "more": [0.1, (1, None)]})
    whole = path.read_bytes()
    data = 8 + int.from_bytes(whole[:8], "little")
    flips = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        caplog.clear()
        point = load_point(path)
        if point is None:
            flips += 1
            assert not path.exists()
            assert [record.levelname for record in caplog.records] == ["WARNING"]
            assert str(path) in caplog.messages[0]
        else:  # in the padding of the header, or in the name of the checksum itself: nothing that is read differs
            assert place < data
            assert all(torch.equal(point[0][name], tensors[name]) for name in tensors)
    assert flips > 0.8 * len(whole)
    assert load_point(path) is None


def test_a_point_of_another_artifact_is_not_taken(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        save_point(tmp_path / name / ".resume.safetensors", {"x": torch.zeros(2)}, name)
    (tmp_path / "b" / ".resume.safetensors").write_bytes((tmp_path / "a" / ".resume.safetensors").read_bytes())
    assert load_point(tmp_path / "b" / ".resume.safetensors") is None
    assert load_point(tmp_path / "a" / ".resume.safetensors") is not None


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 25, 3)
    )
    return layers.to(memory_format=torch.channels_last)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    images = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(number))
    optimizer.zero_grad()
    model(images.contiguous(memory_format=torch.channels_last)).square().mean().backward()
    optimizer.step()


def two_groups(name: str, model: nn.Module) -> torch.optim.Optimizer:
    """Kernels and the rest, as the AdamW of students has them: the order of the groups is not the network's."""
    kernels = [p for p in model.parameters() if p.dim() > 1]
    return OPTIMIZERS[name]([{"params": kernels}, {"params": [p for p in model.parameters() if p.dim() <= 1]}])


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("grouped", [False, True])
def test_a_restored_optimizer_goes_on_bit_for_bit(tmp_path: Path, name: str, grouped: bool) -> None:
    make = two_groups if grouped else (lambda name, model: OPTIMIZERS[name](model.parameters()))
    whole = network()
    optimizer = make(name, whole)
    for number in range(8):
        if number == 4:
            tensors = {f"network.{key}": value for key, value in whole.state_dict().items()}
            save_tensors(tmp_path / "x.safetensors", tensors | optimizer_tensors(optimizer))
        step(whole, optimizer, number)

    rest = network()
    with torch.no_grad():
        for parameter in rest.parameters():  # nothing may be left of the start
            parameter.uniform_()
    again = make(name, rest)
    step(rest, again, 99)  # nor of what the optimizer held before
    tensors, _ = load_tensors(tmp_path / "x.safetensors")
    rest.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
    restore_optimizer(again, tensors)
    for number in range(4, 8):
        step(rest, again, number)

    for key, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[key]), key
    expected, found = optimizer_tensors(optimizer), optimizer_tensors(again)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    for parameter, slot in again.state.items():
        for tensor in slot.values():
            if torch.is_tensor(tensor) and tensor.shape == parameter.shape:
                assert tensor.stride() == parameter.stride()


class Fit(L.LightningModule):
    """The least that a resume point wants."""

    def __init__(self, first_epoch: int = 0) -> None:
        super().__init__()
        self.network = network()
        self.first_epoch = first_epoch
        self.stop_in = -1

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return two_groups("adamw", self.network)

    def train_dataloader(self) -> range:
        return range(3)

    def training_step(self, batch: int, batch_idx: int) -> torch.Tensor:
        epoch = self.first_epoch + self.current_epoch
        if (epoch, batch) == (self.stop_in, 1):
            raise RuntimeError("the power is cut")
        images = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(10 * epoch + batch))
        return self.network(images.contiguous(memory_format=torch.channels_last)).square().mean()


def fit(folder: Path, stop_in: int = -1, seconds: float = 0.0) -> tuple[Fit, int, object]:
    point = ResumePoint(folder / "resume.safetensors", seconds=seconds, notes=lambda: {"seen": "notes"})
    module = Fit()
    done, notes = point.restore(module.network)
    module.first_epoch, module.stop_in = done, stop_in
    trainer = make_trainer(DeviceConfig("cpu", "32-true"), max_epochs=5 - done, folder=folder, callbacks=[point])
    trainer.fit(module)
    return module, done, notes


@pytest.mark.filterwarnings("ignore")
def test_a_fit_that_was_cut_off_goes_on_bit_for_bit(tmp_path: Path) -> None:
    folders = [tmp_path / name / "students" / "0" for name in ("whole", "cut")]
    for folder in folders:
        folder.mkdir(parents=True)
    whole, done, notes = fit(folders[0])
    assert (done, notes) == (0, None)
    with pytest.raises(RuntimeError, match="power"):
        fit(folders[1], stop_in=2)
    with pytest.raises(RuntimeError, match="power"):
        fit(folders[1], stop_in=3)  # and once more
    rest, done, notes = fit(folders[1])
    assert (done, notes) == (3, {"seen": "notes"})
    for key, value in whole.network.state_dict().items():
        assert torch.equal(value, rest.network.state_dict()[key]), key
    first, second = ((folder / "resume.safetensors").read_bytes() for folder in folders)
    assert first == second


@pytest.mark.filterwarnings("ignore")
def test_a_fit_with_a_damaged_point_starts_over(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="power"):
        fit(tmp_path, stop_in=3)
    path = tmp_path / "resume.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    _, done, notes = fit(tmp_path)
    assert (done, notes) == (0, None)


@pytest.mark.filterwarnings("ignore")
def test_points_are_written_no_more_often_than_asked(tmp_path: Path) -> None:
    fit(tmp_path, seconds=1e6)
    assert list(tmp_path.iterdir()) == []
