"""What a pool's readers rely on: weights are checked, nothing is executed, and the members alone name the pool."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from teddy.config.errors import UserError
from teddy.data.spec import DatasetSpec
from teddy.models.networks import build_network
from teddy.pool.members import Member, ModelPool
from teddy.runtime.resume import save_tensors

SPEC = DatasetSpec("blobs", 3, 1, 8, (0.5,), (0.25,), ("a", "b", "c"), ("0", "1", "2"))
NETWORK = "convnet2_w4"


def member(epoch: int, folder: Path = Path("nowhere")) -> Member:
    return Member(NETWORK, folder / f"{epoch}.safetensors", epoch, f"abc/{epoch}", 50.0 + epoch)


def pool_of(*epochs: int, folder: Path = Path("nowhere")) -> ModelPool:
    return ModelPool(tuple(member(epoch, folder) for epoch in epochs), SPEC, "prior")


def test_a_loaded_member_is_the_saved_network_frozen(tmp_path: Path) -> None:
    network = build_network(NETWORK, 3, 1, 8, seed=5)
    network(torch.randn(6, 1, 8, 8))  # moves the running statistics
    save_tensors(tmp_path / "2.safetensors", network.state_dict())
    pool = pool_of(2, folder=tmp_path)
    before = torch.get_rng_state()
    loaded = pool.load(0)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in loaded.modules())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    state = loaded.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(loaded(images), network.eval()(images).detach())
    assert pool.load(0) is not loaded


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return open, (str(self.marker), "w")


def test_a_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    pickle.loads(pickle.dumps(Malicious(marker)))
    assert marker.exists()  # so it would have been
    marker.unlink()
    path = tmp_path / "1.safetensors"
    for write in (
        lambda: torch.save({"features.0.weight": Malicious(marker)}, path),
        lambda: torch.save(Malicious(marker), path, _use_new_zipfile_serialization=False),
        lambda: path.write_bytes(pickle.dumps(Malicious(marker))),
    ):
        write()
        with pytest.raises(UserError, match="not a whole safetensors file"):
            pool_of(1, folder=tmp_path).load(0)
        assert not marker.exists()


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_a_truncated_member_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "1.safetensors"
    save_tensors(path, build_network(NETWORK, 3, 1, 8).state_dict())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"1\.safetensors is not a whole safetensors file .*delete it"):
        pool_of(1, folder=tmp_path).load(0)


def test_a_network_that_was_changed_under_its_name_is_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "1.safetensors", build_network("convnet2_w5", 3, 1, 8).state_dict())
    with pytest.raises(UserError, match=f"the network {NETWORK} has changed since .*; register it under another name"):
        pool_of(1, folder=tmp_path).load(0)


def test_the_fingerprint_names_the_members_and_nothing_else() -> None:
    pool = pool_of(1, 3, 5)
    moved = tuple(replace(one, file=Path("elsewhere") / one.file.name, top1_holdout=0.0) for one in pool.members)
    same = ModelPool(moved, replace(SPEC, name="other"), "another label")
    assert same.fingerprint == pool.fingerprint
    foreign = tuple(replace(one, identity=f"another run/{one.epoch}") for one in pool.members)
    others = [pool_of(1, 3), pool_of(3, 1, 5), pool_of(1, 3, 6), pool_of(1, 3, 5, 7), replace(pool, members=foreign)]
    assert len({pool.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_description_says_strategy_epochs_and_size() -> None:
    assert pool_of(2, 4, 6).description == "prior 2-6 (3)"
    assert pool_of(9).description == "prior 9 (1)"


def test_weights_kept_in_the_type_that_autocast_casts_them_to_change_nothing(tmp_path):
    network = build_network("resnet18_cifar_w4", 3, 3, 8)
    save_tensors(tmp_path / "weights.safetensors", network.state_dict())
    member = Member("resnet18_cifar_w4", tmp_path / "weights.safetensors", 1, "toy", 0.0)
    pool = ModelPool((member,), DatasetSpec("toy", 3, 3, 8, (0.5,) * 3, (0.5,) * 3, ("a",) * 3, ("a",) * 3), "toy")
    images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = []
    for weights in (torch.float32, torch.bfloat16):
        teacher = pool.load(0, "cpu", weights)
        with torch.autocast("cpu", torch.bfloat16):
            logits = teacher(images)
        found.append((logits, torch.autograd.grad(logits.float().sin().sum(), images)[0]))
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)
