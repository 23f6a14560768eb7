"""Words for devices and arithmetic, and what becomes of them."""

from __future__ import annotations

import pytest
import torch

from teddy.config.errors import BadInput
from teddy.runtime.precision import Compute, resolve_compute


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
    compute = resolve_compute("cpu", "float32", devices=3, workers=2)
    assert compute == Compute("cpu", "float32", devices=3, workers=2)
    assert compute.device == torch.device("cpu")
    assert compute.lightning_precision == "32-true"
    assert resolve_compute("cpu", "bfloat16").lightning_precision == "bf16-mixed"


@pytest.mark.parametrize(("cuda", "mps", "found"), [(0, False, "cpu"), (0, True, "mps"), (2, False, "cuda")])
def test_auto_takes_the_best_there_is(machine, cuda: int, mps: bool, found: str) -> None:
    machine(cuda, mps)
    assert resolve_compute("auto", "float32").accelerator == found
    if found != "cpu":
        assert resolve_compute("gpu", "float32").accelerator == found


@pytest.mark.parametrize(("cuda", "bf16", "precision"), [(1, True, "bfloat16"), (1, False, "float32")])
@pytest.mark.parametrize("accelerator", ["cuda", "cpu"])
def test_auto_precision_asks_the_device_that_is_used(
    machine, cuda: int, bf16: bool, precision: str, accelerator: str
) -> None:
    machine(cuda, bf16=bf16)
    assert resolve_compute(accelerator, "auto").precision == precision
    assert resolve_compute(accelerator, "float32").precision == "float32"


@pytest.mark.parametrize("wanted", ["gpu", "cuda", "mps", "tpu"])
def test_what_the_machine_lacks_is_refused(machine, wanted: str) -> None:
    machine()
    with pytest.raises(BadInput, match=f"trainer.accelerator={wanted} is not available.*set trainer.accelerator=auto"):
        resolve_compute(wanted, "float32")


def test_more_gpus_than_there_are_is_refused(machine) -> None:
    machine(cuda=2)
    assert resolve_compute("cuda", "float32", devices=2).devices == 2
    with pytest.raises(BadInput, match=r"trainer\.devices=3 asks for more than the 2 GPUs"):
        resolve_compute("gpu", "float32", devices=3)


def test_autocast_changes_the_arithmetic_of_products_only() -> None:
    weights, images = torch.randn(3, 4), torch.randn(2, 4)
    with Compute("cpu", "float32").autocast():
        assert torch.equal(images @ weights.T, torch.mm(images, weights.T))
        assert (images @ weights.T).dtype == torch.float32
    with Compute("cpu", "bfloat16").autocast():
        product = images @ weights.T
    assert product.dtype == torch.bfloat16
    torch.testing.assert_close(product.float(), images @ weights.T, atol=0.05, rtol=0.05)
    assert weights.dtype == torch.float32
