"""Accelerators and precisions as configured, and what they resolve to."""

from __future__ import annotations

import os

import pytest
import torch

from teddy.config.errors import UserError
from teddy.runtime import device
from teddy.runtime.device import DeviceConfig, resolve_device


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """A machine with these accelerators, as torch would describe it."""

    def set_up(cuda: int = 0, mps: bool = False, bf16: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bf16}, raising=False)

    return set_up


def test_what_is_given_is_kept() -> None:
    device_config = resolve_device("cpu", "32-true", devices=2, workers=2)
    assert device_config == DeviceConfig("cpu", "32-true", devices=2, workers=2)
    assert device_config.device == torch.device("cpu")
    assert (device_config.autocast_dtype, device_config.frozen_weights) == (None, torch.float32)
    device_config = resolve_device("cpu", "bf16-mixed", num_nodes=2, strategy="ddp", deterministic=True)
    assert (device_config.num_nodes, device_config.strategy, device_config.deterministic) == (2, "ddp", True)
    assert device_config.autocast_dtype == device_config.frozen_weights == torch.bfloat16
    assert device_config.callbacks() == []


@pytest.mark.parametrize(("cuda", "mps", "found"), [(0, False, "cpu"), (0, True, "mps"), (2, False, "cuda")])
def test_auto_takes_the_best_there_is(machine, cuda: int, mps: bool, found: str) -> None:
    machine(cuda, mps)
    assert resolve_device("auto", "32-true").accelerator == found
    if found != "cpu":
        assert resolve_device("gpu", "32-true").accelerator == found


@pytest.mark.parametrize(("cuda", "bf16", "precision"), [(1, True, "bf16-mixed"), (1, False, "32-true")])
@pytest.mark.parametrize("accelerator", ["cuda", "cpu"])
def test_auto_precision_asks_the_device_that_is_used(
    machine, cuda: int, bf16: bool, precision: str, accelerator: str
) -> None:
    machine(cuda, bf16=bf16)
    assert resolve_device(accelerator, "auto").precision == precision
    assert resolve_device(accelerator, "32-true").precision == "32-true"


@pytest.mark.parametrize("wanted", ["gpu", "cuda", "mps", "tpu"])
def test_what_the_machine_lacks_is_refused(machine, wanted: str) -> None:
    machine()
    with pytest.raises(UserError, match=f"trainer.accelerator={wanted} is not available.*set trainer.accelerator=auto"):
        resolve_device(wanted, "32-true")


def test_more_gpus_than_there_are_is_refused(machine) -> None:
    machine(cuda=2)
    assert resolve_device("cuda", "32-true", devices=2).devices == 2
    with pytest.raises(UserError, match=r"trainer\.devices=3 asks for more than 2 on this machine \(cuda\)"):
        resolve_device("gpu", "32-true", devices=3)


def test_synchronised_batchnorm_needs_gpus(machine) -> None:
    machine(cuda=2)
    assert resolve_device("cuda", "32-true", devices=2, sync_batchnorm=True).sync_batchnorm
    with pytest.raises(UserError, match="sync_batchnorm=true needs GPUs"):
        resolve_device("cpu", "32-true", devices=2, sync_batchnorm=True)


def test_autocast_changes_the_arithmetic_of_products_only() -> None:
    weights, images = torch.randn(3, 4), torch.randn(2, 4)
    with DeviceConfig("cpu", "32-true").autocast():
        assert torch.equal(images @ weights.T, torch.mm(images, weights.T))
        assert (images @ weights.T).dtype == torch.float32
    with DeviceConfig("cpu", "bf16-mixed").autocast():
        product = images @ weights.T
    assert product.dtype == torch.bfloat16
    torch.testing.assert_close(product.float(), images @ weights.T, atol=0.05, rtol=0.05)
    assert weights.dtype == torch.float32


def test_more_processes_than_cores_are_refused(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert resolve_device("cpu", "32-true", devices=4).devices == 4
    with pytest.raises(UserError, match=r"trainer\.devices=5 asks for more than 4 on this machine \(cpu\); lower it"):
        resolve_device("cpu", "32-true", devices=5)


@pytest.mark.parametrize(
    ("text", "expected"), [("max 100000", 8), ("250000 100000", 2), ("20000 100000", 1), ("nonsense", 8), (None, 8)]
)
def test_a_container_s_share_of_the_cpu_limits_the_threads(text, expected, tmp_path, monkeypatch):
    quota = tmp_path / "cpu.max"
    if text is not None:
        quota.write_text(text + "\n")
    monkeypatch.setattr(device, "CPU_QUOTA", quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert device.usable_cores() == expected
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert device.default_threads() == expected
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert device.default_threads() == 8, "what is typed wins"
